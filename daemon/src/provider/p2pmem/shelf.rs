//! Held memory on its way: dirty, clean, gone.

use peermem_proto::ByteLen;

use super::pool::{Memory, PoolError};

/// Memory with somebody's bytes in it. Dropping it shows them to whoever maps next.
#[must_use = "dropped unzeroed, it goes back to the pool with what is in it"]
#[derive(Debug)]
pub struct Dirty<M>(pub(super) M);

/// Memory that is all zeroes, and can't be anything else: only [`Dirty::zero`] makes it.
#[must_use = "dropped, it goes back to the pool"]
#[derive(Debug)]
pub struct Clean<M>(pub(super) M);

/// Memory for a grant.
#[derive(Debug)]
pub enum Ready<M> {
    /// Can leave at once.
    Clean(Clean<M>),
    /// Must be zeroed before.
    Dirty(Dirty<M>),
}

impl<M: Memory> Dirty<M> {
    /// Zeroes it, which takes as long as the CPU needs to write that much to the device: do it on a blocking thread.
    ///
    /// # Errors
    /// [`PoolError::Gone`].
    pub fn zero(mut self) -> Result<Clean<M>, PoolError> {
        self.0.zero().map(|()| Clean(self.0))
    }
}

impl<M: Memory> Clean<M> {
    /// Gives it to the kernel's pool, where anybody with a descriptor of the allocator can map it.
    pub fn release(self) {}
}

impl<M: Memory> Ready<M> {
    /// Zeroes what isn't yet, as [`Dirty::zero`].
    ///
    /// # Errors
    /// [`PoolError::Gone`].
    pub fn zero(self) -> Result<Clean<M>, PoolError> {
        match self {
            Self::Clean(clean) => Ok(clean),
            Self::Dirty(dirty) => dirty.zero(),
        }
    }
}

/// Pieces of one kind, in no order.
#[derive(Debug)]
pub(super) struct Shelf<M>(Vec<M>);

impl<M: Memory> Shelf<M> {
    pub(super) fn new(pieces: Vec<M>) -> Self {
        Self(pieces)
    }

    pub(super) fn put(&mut self, pieces: impl IntoIterator<Item = M>) {
        self.0.extend(pieces);
    }

    /// Exactly `length` bytes of the shortest piece that has them.
    pub(super) fn take(&mut self, length: ByteLen) -> Option<M> {
        let fitting = self.0.iter().enumerate().filter(|(_, piece)| piece.length() >= length);
        let (index, piece) = fitting.min_by_key(|(_, piece)| piece.length())?;
        if piece.length() == length {
            Some(self.0.swap_remove(index))
        } else {
            self.0[index].split_off(length)
        }
    }

    /// Any whole piece.
    pub(super) fn pop(&mut self) -> Option<M> {
        self.0.pop()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn longest(&self) -> ByteLen {
        self.0.iter().map(Memory::length).max().unwrap_or_default()
    }

    pub(super) fn total(&self) -> ByteLen {
        total(&self.0)
    }
}

pub(super) fn total<M: Memory>(pieces: &[M]) -> ByteLen {
    pieces.iter().fold(ByteLen::ZERO, |sum, piece| sum.saturating_add(piece.length()))
}
