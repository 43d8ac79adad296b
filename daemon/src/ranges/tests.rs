use proptest::prelude::*;

use super::*;

fn range(offset: u64, length: u64) -> ByteRange {
    ByteRange::new(ByteLen::new(offset), ByteLen::new(length)).unwrap()
}

fn take(space: &mut Ranges, length: u64, alignment: u64, fit: Fit) -> Option<u64> {
    space.take(ByteLen::new(length), ByteLen::new(alignment), fit).ok().map(|range| range.offset().get())
}

#[test]
fn the_best_fit_keeps_large_pieces_whole_and_the_first_keeps_low_addresses() {
    let mut space = Ranges::new([range(0, 100)]);
    space.claim(range(60, 10)).unwrap();
    assert_eq!(take(&mut space.clone(), 20, 1, Fit::First), Some(0));
    assert_eq!(take(&mut space, 20, 1, Fit::Best), Some(70));
}

#[test]
fn alignment_counts_from_the_start_of_the_space_not_of_the_piece() {
    let mut space = Ranges::new([range(5, 20)]);
    assert_eq!(take(&mut space, 8, 8, Fit::First), Some(8));
    assert_eq!(take(&mut space, 8, 8, Fit::First), Some(16));
    assert_eq!(take(&mut space, 8, 8, Fit::First), None);
    assert_eq!(space.figures(), Figures { free: ByteLen::new(4), largest: ByteLen::new(3), pieces: 2 });
}

#[test]
fn a_refusal_says_how_much_there_would_be() {
    let mut space = Ranges::new([range(0, 30)]);
    space.claim(range(10, 10)).unwrap();
    let refused = space.take(ByteLen::new(15), ByteLen::new(1), Fit::First).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "no free piece holds 15B aligned to 1B: 20B are free, the largest piece has 10B"
    );
    assert_eq!(space.claim(range(5, 10)), Err(NoPlace::Taken { range: range(5, 10), taken: range(10, 10) }));
    assert_eq!(space.claim(range(25, 10)), Err(NoPlace::Outside { range: range(25, 10) }));
    for nothing in [range(25, 0), range(10, 0), range(15, 0)] {
        assert_eq!(
            space.claim(nothing),
            Err(NoPlace::Outside { range: nothing }),
            "an empty piece is nowhere"
        );
    }
}

#[test]
fn pieces_of_two_ranges_that_touch_stay_two() {
    // What is mapped across a seam of an IOMMU's ranges isn't promised to work.
    let mut space = Ranges::new([range(0, 10), range(10, 10)]);
    assert_eq!(space.claim(range(5, 10)), Err(NoPlace::Outside { range: range(5, 10) }));
    space.claim(range(0, 10)).unwrap();
    assert!(space.give_back(range(0, 10)));
    assert_eq!(take(&mut space, 11, 1, Fit::First), None);
}

#[test]
fn nothing_and_nonsense_find_no_place() {
    let mut space = Ranges::new([range(0, 10)]);
    assert_eq!(take(&mut space, 0, 1, Fit::First), None);
    assert_eq!(take(&mut space, 1, 0, Fit::First), None);
    assert_eq!(take(&mut Ranges::new([]), 1, 1, Fit::Best), None);
    assert_eq!(take(&mut Ranges::new([range(u64::MAX - 5, 5)]), 1, 1 << 63, Fit::Best), None);
    assert!(!space.give_back(range(0, 10)), "nobody has it");
}

#[derive(Debug, Clone)]
enum Step {
    Take { length: u64, alignment: u32, fit: Fit },
    Claim { offset: u64, length: u64 },
    GiveBack(prop::sample::Index),
    GiveBackWrong { offset: u64, length: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    let fit = prop_oneof![Just(Fit::First), Just(Fit::Best)];
    prop_oneof![
        4 => (0_u64..40, 0_u32..6, fit).prop_map(|(length, alignment, fit)| Step::Take { length, alignment, fit }),
        2 => (0_u64..220, 0_u64..30).prop_map(|(offset, length)| Step::Claim { offset, length }),
        4 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        1 => (0_u64..220, 0_u64..30).prop_map(|(offset, length)| Step::GiveBackWrong { offset, length }),
    ]
}

proptest! {
    /// Held against a model that knows of every single byte who has it.
    #[test]
    fn no_byte_is_given_twice_and_none_is_lost(
        bounds in prop::collection::vec((0_u64..200, 0_u64..60), 1..4),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut space = Ranges::new(bounds.iter().map(|&(offset, length)| range(offset, length)));
        let inside = |byte: u64| bounds.iter().any(|&(offset, length)| (offset..offset + length).contains(&byte));
        let all: u64 = (0..300).filter(|&byte| inside(byte)).count() as u64;
        let mut held: Vec<ByteRange> = Vec::new();
        let overlaps = |held: &[ByteRange], range: ByteRange| {
            held.iter().any(|other| other.offset() < range.end() && range.offset() < other.end())
        };
        for step in steps {
            match step {
                Step::Take { length, alignment, fit } => {
                    let alignment = 1 << alignment;
                    if let Ok(range) = space.take(ByteLen::new(length), ByteLen::new(alignment), fit) {
                        prop_assert_eq!(range.length().get(), length);
                        prop_assert!(range.offset().is_aligned(ByteLen::new(alignment)));
                        prop_assert!((range.offset().get()..range.end().get()).all(inside));
                        prop_assert!(!overlaps(&held, range));
                        held.push(range);
                    }
                }
                Step::Claim { offset, length } => {
                    let range = range(offset, length);
                    let taken = overlaps(&held, range);
                    match space.claim(range) {
                        Ok(()) => {
                            prop_assert!(!taken && (offset..offset + length).all(inside));
                            held.push(range);
                        }
                        Err(NoPlace::Taken { .. }) => prop_assert!(taken),
                        Err(_) => prop_assert!(!taken || length == 0),
                    }
                }
                Step::GiveBack(which) if !held.is_empty() => {
                    prop_assert!(space.give_back(held.swap_remove(which.index(held.len()))));
                }
                Step::GiveBack(_) => {}
                Step::GiveBackWrong { offset, length } => {
                    let range = range(offset, length);
                    let known = held.iter().position(|&other| other == range);
                    prop_assert_eq!(space.give_back(range), known.is_some());
                    known.map(|at| held.swap_remove(at));
                }
            }
            let taken: u64 = held.iter().map(|range| range.length().get()).sum();
            prop_assert_eq!(space.figures().free.get(), all - taken);
            prop_assert!(space.free().all(|piece| !overlaps(&held, piece)));
        }
        for range in held {
            prop_assert!(space.give_back(range));
        }
        let fresh = Ranges::new(bounds.iter().map(|&(offset, length)| range(offset, length)));
        prop_assert_eq!(space.figures(), fresh.figures(), "free pieces have grown together again");
    }
}
