//! What a device may still be working on.

use std::sync::Arc;

use slab::Slab;

use super::{
    MemoryRegion,
    number::{Qpn, WorkId},
};

/// Work requests by the number that the device sees, which leads to their place without a search.
///
/// ```text
/// | 32 bits: how many were noted before | 32 bits: their place |
/// ```
///
/// So an entry that a destroyed queue pair left behind matches nothing, though its place has another tenant: entries are polled in the
/// order in which they came, so it is polled long before 2^32 more were noted.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    places: Slab<Posted>,
    noted: u32,
}

/// Work requests of one number.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) id: WorkId,
    pub(super) qpn: Qpn,
    /// One of them has failed, which has been told. The queue pair is in its error state, and the others will be flushed.
    pub(super) failed: bool,
    noted: u32,
    /// Keeps the memory registered until the device is done with it.
    _regions: Kept,
}

/// Memory regions in use. The first is apart from the others, since mostly there are none, and a vector without members
/// takes no memory.
#[derive(Debug, Default)]
struct Kept {
    first: Option<Arc<MemoryRegion>>,
    others: Vec<Arc<MemoryRegion>>,
}

impl Outstanding {
    /// Notes requests, and keeps `regions` registered; returns their number.
    ///
    /// # Panics
    /// With more than 2^32 at a time.
    pub(super) fn note<'a>(
        &mut self,
        id: WorkId,
        qpn: Qpn,
        regions: impl IntoIterator<Item = &'a Arc<MemoryRegion>>,
    ) -> u64 {
        let mut kept = Kept::default();
        regions.into_iter().for_each(|region| kept.add(region));
        self.noted = self.noted.wrapping_add(1);
        let place = self.places.insert(Posted { id, qpn, failed: false, noted: self.noted, _regions: kept });
        let place =
            u32::try_from(place).expect("each takes an entry of the queue, which are counted by 32 bits");
        u64::from(self.noted) << 32 | u64::from(place)
    }

    /// Those of that number, if the device may still be working on them.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Posted> {
        let (noted, place) = halves(number);
        self.places.get_mut(place).filter(|posted| posted.noted == noted)
    }

    /// The same; from now on the device isn't working on them.
    pub(super) fn take(&mut self, number: u64) -> Option<Posted> {
        let (_, place) = halves(number);
        self.get(number)?;
        self.places.try_remove(place)
    }

    /// Lets go of all that a queue pair had posted.
    pub(super) fn forget(&mut self, qpn: Qpn) {
        self.places.retain(|_, posted| posted.qpn != qpn);
    }
}

/// Which one it was, and where. Both are halves of a number, so nothing is cut off.
#[allow(clippy::cast_possible_truncation)]
fn halves(number: u64) -> (u32, usize) {
    ((number >> 32) as u32, number as u32 as usize)
}

impl Kept {
    fn add(&mut self, region: &Arc<MemoryRegion>) {
        match self.others.last().or(self.first.as_ref()) {
            Some(last) if Arc::ptr_eq(last, region) => {}
            Some(_) => self.others.push(Arc::clone(region)),
            None => self.first = Some(Arc::clone(region)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn qpn(number: u32) -> Qpn {
        Qpn::new(number).unwrap()
    }

    #[derive(Debug, Clone)]
    enum Step {
        Note(u32),
        Take(usize),
        Forget(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1_u32..4).prop_map(Step::Note),
            3 => any::<usize>().prop_map(Step::Take),
            1 => (1_u32..4).prop_map(Step::Forget),
        ]
    }

    proptest! {
        #[test]
        fn a_number_is_that_of_one_request_for_ever(steps in prop::collection::vec(step(), 0..200)) {
            let mut outstanding = Outstanding::default();
            // Every number that there ever was, and whose it is while it is outstanding.
            let mut expected: BTreeMap<u64, Option<(WorkId, u32)>> = BTreeMap::new();
            for (at, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Note(queue_pair) => {
                        let id = WorkId(at as u64);
                        let number = outstanding.note(id, qpn(queue_pair), []);
                        prop_assert!(expected.insert(number, Some((id, queue_pair))).is_none());
                    }
                    Step::Take(which) if !expected.is_empty() => {
                        let number = *expected.keys().nth(which % expected.len()).unwrap();
                        let was = expected.insert(number, None).flatten();
                        let taken = outstanding.take(number);
                        prop_assert_eq!(taken.map(|posted| posted.id), was.map(|(id, _)| id));
                    }
                    Step::Take(_) => {}
                    Step::Forget(queue_pair) => {
                        outstanding.forget(qpn(queue_pair));
                        for whose in expected.values_mut() {
                            *whose = whose.filter(|(_, of)| *of != queue_pair);
                        }
                    }
                }
                for (number, whose) in &expected {
                    let seen = outstanding.get(*number).map(|posted| (posted.id, posted.qpn));
                    prop_assert_eq!(seen, whose.map(|(id, of)| (id, qpn(of))));
                }
            }
        }
    }
}
