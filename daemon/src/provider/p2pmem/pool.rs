//! What a hold needs of a device's pool. Two have it: [`Device`](super::Device), and the allocator of the tests.

use std::{io, path::PathBuf};

use peermem_proto::ByteLen;
use thiserror::Error;

/// The unit in which a pool hands out memory.
pub(super) fn page() -> ByteLen {
    ByteLen::from_usize(rustix::param::page_size())
}

/// `length`, rounded down to whole pages.
pub(super) fn whole_pages(length: ByteLen) -> ByteLen {
    ByteLen::new(length.get() / page().get() * page().get())
}

/// Why a device's pool didn't do what it was asked to do.
#[derive(Debug, Error)]
pub enum PoolError {
    /// It was unplugged, or lost its driver. What the hold has of it is no memory any more: drop the hold.
    #[error("the device is gone, and its memory with it")]
    Gone(#[source] io::Error),
    /// A file that every pool comes with can't be opened.
    #[error("can't open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel answered something that isn't known of pools.
    #[error("can't {operation} the device's memory")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// The kernel's allocator for the memory of one device. Others take memory out of it, and give memory back, at any time.
pub trait Pool {
    /// What it hands out.
    type Memory: Memory;

    /// How many bytes are free now.
    ///
    /// # Errors
    /// [`PoolError::Gone`], always, once the device is gone.
    fn available(&self) -> Result<ByteLen, PoolError>;

    /// Takes `length` bytes in one run: whole pages, at least one. `None` when no free run is that long.
    ///
    /// # Errors
    /// [`PoolError`].
    fn take(&self, length: ByteLen) -> Result<Option<Self::Memory>, PoolError>;
}

/// One run of memory out of a pool, owned. Dropping it gives it back to the pool, as it is.
pub trait Memory: Sized + Send {
    /// Its length: whole pages, at least one.
    fn length(&self) -> ByteLen;

    /// Cuts off the first `length` bytes; `None` unless these are whole pages, at least one, and at least one remains.
    fn split_off(&mut self, length: ByteLen) -> Option<Self>;

    /// Fills it with zeroes, which takes a while.
    ///
    /// # Errors
    /// [`PoolError::Gone`]. There is no other reason, so nothing is lost when the memory is then dropped.
    fn zero(&mut self) -> Result<(), PoolError>;
}

/// Takes all that is free: in one run, or else one of `run` bytes, if there is one, and the others.
pub(super) fn take_all<P: Pool>(pool: &P, run: ByteLen) -> Result<Vec<P::Memory>, PoolError> {
    let all = whole_pages(pool.available()?);
    let mut taken = Vec::new();
    for length in [all, whole_pages(run)] {
        if taken.is_empty() && !length.is_zero() {
            taken.extend(pool.take(length)?);
        }
    }
    taken.extend(take(pool, ByteLen::new(u64::MAX))?);
    Ok(taken)
}

/// Takes up to `most` bytes, in as few runs as halving finds.
pub(super) fn take<P: Pool>(pool: &P, most: ByteLen) -> Result<Vec<P::Memory>, PoolError> {
    let mut taken = Vec::new();
    let mut left = most;
    let mut step = most;
    loop {
        step = whole_pages(step.min(left).min(pool.available()?));
        if step.is_zero() {
            return Ok(taken);
        }
        match pool.take(step)? {
            Some(memory) => {
                left = left.saturating_sub(memory.length());
                taken.push(memory);
            }
            None => step = ByteLen::new(step.get() / 2),
        }
    }
}
