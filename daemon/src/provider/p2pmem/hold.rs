//! The hold: quota and zeroing for memory whose allocator knows neither.
//!
//! The kernel lets whoever has a descriptor of `p2pmem/allocate` map whatever the pool has free, and doesn't zero it. So the
//! daemon takes the free memory itself, by mapping it, and puts back exactly what it grants, zeroed. Nobody can map more
//! than that, because there is no more.
//!
//! ```text
//!           begin                    prepare, zero, release             the owner's mmap
//! pool ───────────────► hold ──────────────────────────────► pool ───────────────────────► owner
//!                        ▲                                     ▲                              │
//!                        └──────────── settle ─────────────────┴── munmap, exit ◄─────────────┘
//! ```
//!
//! The pool says how much is free, and neither which bytes nor whose. So the books are kept in sums. When a lease
//! ends, its bytes are *owed*. [`Hold::settle`] takes **all** that is free: what is owed is recovered, and the rest,
//! which belongs to leases that were granted and not mapped yet, is put back at once, clean. Taking all is what keeps a
//! new owner's mmap from being served out of pages that an old owner has just freed.
//!
//! At every moment, and whatever owners do:
//! `what is outside of the hold = active leases + what is owed + what was left to others at the start`.
//!
//! # What this can't do
//!
//! * Who holds a descriptor can race the daemon for pages between the moment an owner frees them and the next
//!   `settle`: it gets unzeroed memory, more than its lease. The kernel offers nothing against that. The sums show it:
//!   `owed` stays above zero.
//! * So can an owner leave its bytes to the next who maps, by unmapping while it keeps its lease: nothing is owed then.
//! * An owner that says it let go, and didn't, is owed for until it does. Memory is memory: another owner's free share may be
//!   recovered in its place, and that owner's mmap then fails with `ENOMEM`. The quota of all together holds.
//! * While `settle` works, an owner's first mmap can fail with `ENOMEM`. It should try again for a while. If several
//!   owners haven't mapped yet, and the hold is fragmented, what is put back may be in runs too short for one of them, which
//!   then has to ask for another lease.

use peermem_proto::ByteLen;
use thiserror::Error;

use super::{
    device::Device,
    plan::Plan,
    pool::{Memory, Pool, PoolError, page, take, take_all},
    shelf::{Clean, Dirty, Ready, Shelf, total},
};

/// Why no memory can be put aside for a lease.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The pool doesn't hand out such a length.
    #[error("{0} isn't a whole number of pages: expected a multiple of {page}, at least one", page = page())]
    NotPages(ByteLen),
    /// Less is held than that.
    #[error(
        "the daemon holds {held} of the device's memory, too little for {wanted}, and waits for {owed} that owners of ended \
         leases still map: `fuser -v` on the device's p2pmem/allocate shows these processes"
    )]
    NotEnough {
        /// What was asked for.
        wanted: ByteLen,
        /// What the hold has.
        held: ByteLen,
        /// What it doesn't have yet.
        owed: ByteLen,
    },
    /// Enough is held, in smaller runs, with other leases' memory between them.
    #[error(
        "the daemon holds {held} of the device's memory, but no {wanted} in one run: ask for less, or end leases that lie \
         between"
    )]
    Fragmented {
        /// What was asked for.
        wanted: ByteLen,
        /// What the hold has.
        held: ByteLen,
    },
    /// Memory that would do is being zeroed: ask again after [`Hold::scrubbed`].
    #[error("the device's free memory is being zeroed")]
    Later,
    /// The pool failed.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// The part of one device's pool that the daemon has.
///
/// All methods are quick but for the kernel's mmap; zeroing is left to the caller, who takes memory out for it. After
/// each of them, [`due`](Self::due) says what others wait for.
#[derive(Debug)]
pub struct Hold<P: Pool = Device> {
    pool: P,
    /// All zeroes.
    clean: Shelf<P::Memory>,
    /// From an owner; zeroed as soon as there is time.
    returned: Shelf<P::Memory>,
    /// There since the start, or moved since; zeroed when granted, so that a start costs no time.
    unknown: Shelf<P::Memory>,
    /// To be zeroed and put back: others have a right to it.
    due: Vec<Dirty<P::Memory>>,
    /// Out to be zeroed, and coming back.
    scrubbing: ByteLen,
    /// Of leases that ended, and not recovered.
    owed: ByteLen,
    /// No run of this length was found when all was let go, and nothing came back since.
    no_run_of: Option<ByteLen>,
}

impl<P: Pool> Hold<P> {
    /// Takes the plan's share of the pool. Where others have memory already, that is less than the device's size.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn begin(pool: P, plan: Plan) -> Result<Self, PoolError> {
        let share = plan.share_of(pool.available()?);
        let unknown = Shelf::new(take(&pool, share)?);
        Ok(Self {
            pool,
            clean: Shelf::new(Vec::new()),
            returned: Shelf::new(Vec::new()),
            unknown,
            due: Vec::new(),
            scrubbing: ByteLen::ZERO,
            owed: ByteLen::ZERO,
            no_run_of: None,
        })
    }

    /// How much it has for leases to come.
    pub fn held(&self) -> ByteLen {
        let shelves = [self.clean.total(), self.returned.total(), self.unknown.total()];
        shelves.into_iter().fold(self.scrubbing, ByteLen::saturating_add)
    }

    /// How much it waits for.
    pub fn owed(&self) -> ByteLen {
        self.owed
    }

    /// Puts exactly `length` bytes aside for a lease, after settling. Zero them, release them, and only then answer the
    /// client; from here on the lease counts as active. If it comes to nothing, [`keep`](Self::keep) them.
    ///
    /// # Errors
    /// [`PrepareError`].
    pub fn prepare(&mut self, length: ByteLen) -> Result<Ready<P::Memory>, PrepareError> {
        if length.is_zero() || !length.is_aligned(page()) {
            return Err(PrepareError::NotPages(length));
        }
        self.settle()?;
        if let Some(ready) = self.carve(length) {
            return Ok(ready);
        }
        let held = self.held();
        if held < length {
            return Err(PrepareError::NotEnough { wanted: length, held, owed: self.owed });
        }
        if !self.scrubbing.is_zero() {
            return Err(PrepareError::Later);
        }
        let fragmented = PrepareError::Fragmented { wanted: length, held };
        if self.no_run_of.is_some_and(|absent| length >= absent) {
            return Err(fragmented);
        }
        self.compact(length)?.map(Ready::Dirty).ok_or(fragmented)
    }

    /// Takes back memory that was prepared and not released.
    pub fn keep(&mut self, clean: Clean<P::Memory>) {
        self.clean.put([clean.0]);
        self.no_run_of = None;
    }

    /// A lease of that many bytes ended, for whatever reason: they will be, or are already, free. Then [`settle`](Self::settle).
    pub fn owe(&mut self, length: ByteLen) {
        self.owed = self.owed.saturating_add(length);
    }

    /// Recovers what is owed, as far as it is free by now.
    ///
    /// # Errors
    /// [`PoolError`]; [`PoolError::Gone`] whenever the device is gone.
    pub fn settle(&mut self) -> Result<(), PoolError> {
        let available = self.pool.available()?;
        if self.owed.is_zero() || available.is_zero() {
            return Ok(());
        }
        let taken = take_all(&self.pool, available.saturating_sub(self.owed))?;
        let surplus = self.recover(&taken);
        self.returned.put(taken);
        self.put_back(surplus);
        Ok(())
    }

    /// Memory that others have a right to: zero and release it at once. Ask until `None`.
    pub fn due(&mut self) -> Option<Dirty<P::Memory>> {
        self.due.pop()
    }

    /// Memory to zero when nothing is more urgent, one piece at a time: what comes of it goes to [`scrubbed`](Self::scrubbed).
    pub fn scrub(&mut self) -> Option<Dirty<P::Memory>> {
        if !self.scrubbing.is_zero() {
            return None;
        }
        let piece = self.returned.pop()?;
        self.scrubbing = piece.length();
        Some(Dirty(piece))
    }

    /// Takes back what [`scrub`](Self::scrub) gave.
    ///
    /// # Errors
    /// The outcome's own.
    pub fn scrubbed(&mut self, outcome: Result<Clean<P::Memory>, PoolError>) -> Result<(), PoolError> {
        self.scrubbing = ByteLen::ZERO;
        self.clean.put([outcome?.0]);
        Ok(())
    }

    /// Settles the books for what was taken, and says how much of it is the others'.
    fn recover(&mut self, taken: &[P::Memory]) -> ByteLen {
        let taken = total(taken);
        let surplus = taken.saturating_sub(self.owed);
        self.owed = self.owed.saturating_sub(taken);
        self.no_run_of = None;
        surplus
    }

    /// One run of `length` bytes, clean if there is one.
    fn carve(&mut self, length: ByteLen) -> Option<Ready<P::Memory>> {
        let clean = self.clean.take(length).map(|memory| Ready::Clean(Clean(memory)));
        clean.or_else(|| {
            let dirty = self.returned.take(length).or_else(|| self.unknown.take(length));
            dirty.map(|memory| Ready::Dirty(Dirty(memory)))
        })
    }

    /// Gives the pool `length` bytes that others have a right to, in one run if there is one: what is clean now, and the rest
    /// as [`due`](Self::due). What has just come back is spared: zeroed meanwhile, it can be put back the next time at once.
    pub fn put_back(&mut self, mut length: ByteLen) {
        while !length.is_zero() {
            let shelves = [&self.clean, &self.returned, &self.unknown];
            let longest = shelves.map(Shelf::longest).into_iter().max().unwrap_or_default();
            let part = length.min(longest);
            if let Some(clean) = self.clean.take(part) {
                Clean(clean).release();
            } else if let Some(dirty) = self.unknown.take(part).or_else(|| self.returned.take(part)) {
                self.due.push(Dirty(dirty));
            } else {
                // Nothing is left, which can't be: more was just taken.
                return;
            }
            length = length.saturating_sub(part);
        }
    }

    /// Lets go of everything, and takes it again with a run of `length` bytes: pieces that lie side by side in the
    /// device can't be joined otherwise. Others can write to the memory, or take it, in between: all is dirty, and what is
    /// missing is owed.
    fn compact(&mut self, length: ByteLen) -> Result<Option<Dirty<P::Memory>>, PoolError> {
        self.owed = self.owed.saturating_add(self.held());
        for shelf in [&mut self.clean, &mut self.returned, &mut self.unknown] {
            shelf.clear();
        }
        let taken = take_all(&self.pool, length)?;
        let surplus = self.recover(&taken);
        self.unknown.put(taken);
        let run = self.unknown.take(length);
        self.put_back(surplus);
        if run.is_none() {
            self.no_run_of = Some(length);
        }
        Ok(run.map(Dirty))
    }
}
