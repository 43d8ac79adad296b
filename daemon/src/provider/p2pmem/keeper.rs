//! A held pool at work: leases that wait for memory, and memory that waits to be zeroed.
//!
//! Zeroing takes long, so it is a [`Job`] for another thread; everything else happens at once.

use std::{collections::VecDeque, path::PathBuf};

use peermem_proto::{ByteLen, Fault, LeaseId, RegionName};

use super::{Clean, Dirty, Hold, P2pmem, PoolError, PrepareError, Ready, open_allocator};
use crate::{
    provider::{Carved, fault},
    sys::Piece,
    words::in_words,
};

/// A pool that the daemon holds.
#[derive(Debug)]
pub struct Keeper {
    region: RegionName,
    hold: Hold,
    allocator: PathBuf,
    /// Of ended leases, and not yet said to be back.
    missed: ByteLen,
    /// Whether somebody looks for what is owed.
    looked_for: bool,
    /// In the order of their calls.
    waiting: VecDeque<(LeaseId, ByteLen)>,
    jobs: Vec<Job>,
}

/// What came of a lease's wait.
pub type Carving = (LeaseId, Result<Carved, Fault>);

/// Memory to be zeroed, on a thread that may take its time.
#[derive(Debug)]
#[must_use = "the memory goes back to the pool with what is in it"]
pub struct Job {
    purpose: Purpose,
    memory: Dirty<Piece>,
}

/// What came of a [`Job`].
#[derive(Debug)]
#[must_use = "the keeper waits for it"]
pub struct Done {
    purpose: Purpose,
    outcome: Result<Clean<Piece>, PoolError>,
}

#[derive(Debug)]
enum Purpose {
    /// For this lease.
    Lease(LeaseId, ByteLen),
    /// For leases that were granted and not mapped yet.
    Others,
    /// For leases to come.
    Stock,
}

impl Job {
    /// Zeroes the memory.
    pub fn run(self) -> Done {
        Done { purpose: self.purpose, outcome: self.memory.zero() }
    }
}

impl Keeper {
    /// Takes the daemon's share of the function's pool; `None` where the rules say that it holds nothing there.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn begin(region: RegionName, function: &P2pmem) -> Result<Option<Self>, PoolError> {
        let allocator = function.allocator();
        Ok(function.hold()?.map(|hold| Self {
            region,
            hold,
            allocator,
            missed: ByteLen::ZERO,
            looked_for: false,
            waiting: VecDeque::new(),
            jobs: Vec::new(),
        }))
    }

    /// How much it has for leases to come.
    pub fn held(&self) -> ByteLen {
        self.hold.held()
    }

    /// How much it waits for.
    pub fn owed(&self) -> ByteLen {
        self.hold.owed()
    }

    /// After a restart: it should hold `expected`, while `leased` bytes are with leases. What it has too much of, leases were
    /// granted and haven't mapped yet, and they get it back; what it has too little of, it waits for, and returns.
    pub fn reconcile(&mut self, expected: ByteLen, leased: ByteLen) -> ByteLen {
        self.hold.put_back(self.held().saturating_sub(expected).min(leased));
        let missing = expected.saturating_sub(self.held());
        self.release(missing);
        missing
    }

    /// Gets the memory of a lease, and that of others that waited before it. What isn't among them comes of a [`Job`].
    pub fn carve(&mut self, lease: LeaseId, length: ByteLen) -> Vec<Carving> {
        self.waiting.push_back((lease, length));
        self.advance()
    }

    /// A lease has ended.
    pub fn release(&mut self, length: ByteLen) {
        self.hold.owe(length);
        self.missed = self.missed.saturating_add(length);
    }

    /// Whether somebody must begin to look for what is owed, whatever it is owed for. Said once, until [`Self::has_all`].
    pub fn wants_look(&mut self) -> bool {
        !self.owed().is_zero() && !std::mem::replace(&mut self.looked_for, true)
    }

    /// Whether nothing is owed, so that nobody need look any longer.
    pub fn has_all(&mut self) -> bool {
        self.looked_for = !self.owed().is_zero();
        !self.looked_for
    }

    /// Takes back what is free of what it waits for.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn settle(&mut self) -> Result<(), PoolError> {
        self.hold.settle()
    }

    /// How much of ended leases has come back since it was last asked for: a grant takes back what it finds, too.
    pub fn recovered(&mut self) -> ByteLen {
        let back = self.missed.saturating_sub(self.owed());
        self.missed = self.missed.saturating_sub(back);
        back
    }

    /// Memory to zero. Ask after everything else.
    pub fn jobs(&mut self) -> Vec<Job> {
        while let Some(memory) = self.hold.due() {
            self.jobs.push(Job { purpose: Purpose::Others, memory });
        }
        if let Some(memory) = self.hold.scrub() {
            self.jobs.push(Job { purpose: Purpose::Stock, memory });
        }
        std::mem::take(&mut self.jobs)
    }

    /// Goes on with what was zeroed.
    pub fn done(&mut self, done: Done) -> Vec<Carving> {
        let mut ready = Vec::new();
        match (done.purpose, done.outcome) {
            (Purpose::Lease(lease, length), Ok(clean)) => ready.push((lease, self.hand_over(clean, length))),
            (Purpose::Lease(lease, _), Err(error)) => ready.push((lease, Err(self.failed("zero", &error)))),
            (Purpose::Others, Ok(clean)) => clean.release(),
            (Purpose::Others, Err(_)) => {}
            // The device is gone, which its end tells in a moment.
            (Purpose::Stock, outcome) => drop(self.hold.scrubbed(outcome)),
        }
        ready.extend(self.advance());
        ready
    }

    fn advance(&mut self) -> Vec<Carving> {
        let mut ready = Vec::new();
        while let Some((lease, length)) = self.waiting.front().copied() {
            let outcome = match self.hold.prepare(length) {
                Ok(Ready::Clean(clean)) => Some(self.hand_over(clean, length)),
                Ok(Ready::Dirty(memory)) => {
                    self.jobs.push(Job { purpose: Purpose::Lease(lease, length), memory });
                    None
                }
                Err(PrepareError::Later) => break,
                Err(error) => Some(Err(self.failed("prepare", &error))),
            };
            self.waiting.pop_front();
            ready.extend(outcome.map(|outcome| (lease, outcome)));
        }
        ready
    }

    /// Lets go of the memory, and gives the descriptor by which the client maps it.
    fn hand_over(&mut self, clean: Clean<Piece>, length: ByteLen) -> Result<Carved, Fault> {
        clean.release();
        let opened = open_allocator(&self.region, &self.allocator);
        if opened.is_err() {
            self.hold.owe(length);
        }
        opened
    }

    fn failed(&self, operation: &str, error: &dyn std::error::Error) -> Fault {
        fault(&self.region, operation, in_words(error))
    }
}
