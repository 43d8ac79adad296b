//! What holds whatever happens, in whichever order.

use peermemd::provider::p2pmem::{Clean, Dirty, Hold, Plan, PoolError, Ready};
use proptest::prelude::*;

use crate::pool::{FirstFit, Run, pages};

const SIZE: usize = 24;

/// What a test does; numbers choose among what exists.
#[derive(Debug, Clone)]
enum Step {
    Prepare(usize),
    /// The grant's memory leaves, or comes back.
    Finish(usize, bool),
    /// Anybody with a descriptor maps, whatever leases they have.
    Map(usize),
    Unmap(usize),
    /// A lease ends, whether or not its owner let go.
    End(usize),
    Settle,
    PutBack,
    Scrub,
    Scrubbed,
    /// Somebody is quicker than the hold.
    Ambush(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = 1..10_usize;
    let step = prop_oneof![
        4 => length.clone().prop_map(Step::Prepare),
        4 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(which, leaves)| Step::Finish(which, leaves)),
        5 => length.prop_map(Step::Map),
        4 => any::<usize>().prop_map(Step::Unmap),
        3 => any::<usize>().prop_map(Step::End),
        3 => Just(Step::Settle),
        2 => Just(Step::PutBack),
        1 => Just(Step::Scrub),
        1 => Just(Step::Scrubbed),
        1 => (1..4_usize).prop_map(Step::Ambush),
    ];
    prop::collection::vec(step, 1..150)
}

fn any_of<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    (!list.is_empty()).then(|| list.swap_remove(which % list.len()))
}

/// A hold, those who use it, and those who abuse it.
struct World {
    pool: FirstFit,
    hold: Hold<FirstFit>,
    /// What the hold began with.
    share: usize,
    preparing: Vec<(usize, Ready<Run>)>,
    leases: Vec<usize>,
    mapped: Vec<Run>,
    scrubbing: Option<Dirty<Run>>,
}

impl World {
    fn new(leave: usize) -> Self {
        let pool = FirstFit::new(SIZE);
        // What is left to others is theirs to clean.
        pool.map(SIZE).unwrap().write(0);
        let hold = Hold::begin(pool.clone(), Plan { leave: pages(leave), ..Plan::default() }).unwrap();
        let (preparing, leases, mapped) = (Vec::new(), Vec::new(), Vec::new());
        Self { pool, hold, share: SIZE - leave, preparing, leases, mapped, scrubbing: None }
    }

    /// What the shell does with memory once it is clean.
    fn release(&self, zeroed: Result<Clean<Run>, PoolError>) {
        let was_zero = self.pool.free_is_zero();
        zeroed.unwrap().release();
        assert_eq!(self.pool.free_is_zero(), was_zero, "what was released wasn't zeroed");
    }

    fn step(&mut self, step: &Step) {
        let settles = !self.hold.owed().is_zero() && self.pool.free() > 0;
        match *step {
            Step::Prepare(length) => {
                if let Ok(ready) = self.hold.prepare(pages(length)) {
                    self.preparing.push((length, ready));
                }
                assert!(!settles || self.pool.free_is_zero(), "a grant beside what an old owner freed");
            }
            Step::Finish(which, leaves) => match any_of(&mut self.preparing, which) {
                Some((length, ready)) if leaves => {
                    self.release(ready.zero());
                    self.leases.push(length);
                }
                Some((_, ready)) => self.hold.keep(ready.zero().unwrap()),
                None => {}
            },
            Step::Map(length) => {
                if let Some(mut run) = self.pool.map(length) {
                    run.write(0x5a);
                    self.mapped.push(run);
                }
            }
            Step::Unmap(which) => drop(any_of(&mut self.mapped, which)),
            Step::End(which) => {
                if let Some(length) = any_of(&mut self.leases, which) {
                    self.hold.owe(pages(length));
                }
            }
            Step::Settle => {
                self.hold.settle().unwrap();
                assert!(!settles || self.pool.free_is_zero(), "settled beside what an old owner freed");
            }
            Step::PutBack => self.put_back(),
            Step::Scrub => self.scrubbing = self.scrubbing.take().or_else(|| self.hold.scrub()),
            Step::Scrubbed => {
                if let Some(dirty) = self.scrubbing.take() {
                    self.hold.scrubbed(dirty.zero()).unwrap();
                }
            }
            Step::Ambush(count) => self.pool.ambush(count),
        }
    }

    fn put_back(&mut self) {
        while let Some(dirty) = self.hold.due() {
            self.release(dirty.zero());
        }
    }

    /// The sums, which need to know nothing of who has which page.
    fn check(&self) {
        let preparing = self.preparing.iter().map(|(length, _)| length);
        let active: usize = self.leases.iter().chain(preparing).sum();
        let outside = pages(SIZE).checked_sub(self.hold.held()).unwrap();
        let rights = pages(active + SIZE - self.share).checked_add(self.hold.owed()).unwrap();
        assert_eq!(outside, rights, "outside of the hold, and the rights to be there");
    }

    /// Everybody lets go.
    fn end(mut self) {
        self.step(&Step::Scrubbed);
        self.mapped.clear();
        self.pool.free_stolen();
        for (_, ready) in std::mem::take(&mut self.preparing) {
            self.hold.keep(ready.zero().unwrap());
        }
        for length in std::mem::take(&mut self.leases) {
            self.hold.owe(pages(length));
        }
        self.put_back();
        self.hold.settle().unwrap();
        self.put_back();
        assert_eq!((self.hold.held(), self.hold.owed()), (pages(self.share), pages(0)));
        assert_eq!(self.pool.free(), SIZE - self.share);
    }
}

proptest! {
    #[test]
    fn the_sums_hold_whatever_owners_and_thieves_do(leave in 0..4_usize, steps in steps()) {
        let mut world = World::new(leave);
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.end();
    }

    /// Who maps what was granted, at some time, and unmaps before it says so.
    #[test]
    fn honest_owners_get_what_was_granted_and_read_zeroes(
        steps in prop::collection::vec((1..10_usize, any::<bool>(), any::<usize>()), 1..60),
    ) {
        let pool = FirstFit::new(SIZE);
        let mut hold = Hold::begin(pool.clone(), Plan::default()).unwrap();
        let mut owners: Vec<(usize, Run)> = Vec::new();
        for (length, others_end, which) in steps {
            let Ok(ready) = hold.prepare(pages(length)) else {
                // Too little is left, or in runs too short: all make room.
                for (ended, run) in owners.drain(..) {
                    drop(run);
                    hold.owe(pages(ended));
                }
                hold.settle().unwrap();
                prop_assert_eq!(hold.held(), pages(SIZE));
                continue;
            };
            ready.zero().unwrap().release();
            if others_end && let Some((ended, run)) = any_of(&mut owners, which) {
                drop(run);
                hold.owe(pages(ended));
                hold.settle().unwrap();
                while let Some(dirty) = hold.due() {
                    dirty.zero().unwrap().release();
                }
            }
            let mut run = pool.map(length).expect("what was granted can be mapped");
            prop_assert!(run.is_zero());
            prop_assert_eq!(pool.free(), 0, "and not a page more");
            run.write(0x5a);
            owners.push((length, run));
        }
    }
}
