//! Transfers: checked before the first byte, split into messages, pipelined.

use std::{fmt, time::Instant};

use peermem_proto::ByteLen;
use thiserror::Error;

use super::{constraint::Unaligned, endpoint::Endpoint, quirks::Unusable, remote::RemoteRegion};
#[cfg(feature = "async")]
use crate::verbs::AsyncChannel;
use crate::verbs::{Completion, CompletionError, MrSlice, PostError, RemoteTarget, Rkey, WorkError, WorkId};

/// The two directions of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// From here to the peer.
    Write,
    /// From the peer to here.
    Read,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Read => "read",
        })
    }
}

/// Why the bytes didn't move. Up to `Unusable`, nothing was started and the endpoint stays as it was.
#[derive(Debug, Clone, Error)]
pub enum TransferError {
    /// An earlier transfer failed.
    #[error("the endpoint is disconnected, since a transfer failed or was cancelled")]
    Disconnected,
    /// Not inside the peer's region.
    #[error("{len} at offset {offset} lie outside the peer's region of {region}")]
    OutOfBounds {
        /// Where in the region.
        offset: ByteLen,
        /// How many bytes.
        len: ByteLen,
        /// How many there are.
        region: ByteLen,
    },
    /// It would move wrong bytes.
    #[error(transparent)]
    Unaligned(#[from] Unaligned),
    /// The device can't be trusted with this kind of region.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// A message wasn't posted.
    #[error(transparent)]
    Post(#[from] PostError),
    /// A message failed.
    #[error("the {operation} failed, in the message at offset {offset:#x}")]
    Work {
        /// What it was.
        operation: Operation,
        /// Where in the transfer that message starts.
        offset: u64,
        /// Why.
        source: WorkError,
    },
    /// The deadline passed, or completions can't be had any more.
    #[error("the transfer didn't end")]
    Completion(#[from] CompletionError),
}

impl Endpoint {
    /// Writes `local` to the peer's memory, from `offset` in `remote` on. Returns when the peer's device has it.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn write(
        &mut self,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        self.transfer(Operation::Write, local, remote, offset, deadline)
    }

    /// Reads the peer's memory into `local`, from `offset` in `remote` on. Returns when the bytes are here.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn read(
        &mut self,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        self.transfer(Operation::Read, local, remote, offset, deadline)
    }

    fn transfer(
        &mut self,
        operation: Operation,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        let queue = self.queue.clone();
        let mut flight = Flight::new(self, operation, local, remote, offset)?;
        let mut completions = Vec::new();
        while flight.advance()? {
            queue.wait(&mut completions, deadline)?;
            flight.land(&mut completions)?;
        }
        Ok(())
    }

    /// As [`write`](Self::write), without blocking a thread. Cancelling it disconnects the endpoint.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    #[cfg(feature = "async")]
    pub async fn write_async(
        &mut self,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        self.transfer_async(Operation::Write, local, remote, offset, deadline).await
    }

    /// As [`read`](Self::read), without blocking a thread. Cancelling it disconnects the endpoint.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    #[cfg(feature = "async")]
    pub async fn read_async(
        &mut self,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        self.transfer_async(Operation::Read, local, remote, offset, deadline).await
    }

    #[cfg(feature = "async")]
    async fn transfer_async(
        &mut self,
        operation: Operation,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        let queue = self.queue.clone();
        // Registered anew for each transfer: the endpoint may have moved to another runtime since the last.
        let channel = AsyncChannel::new(queue.channel())?;
        let mut flight = Flight::new(self, operation, local, remote, offset)?;
        let mut completions = Vec::new();
        while flight.advance()? {
            tokio::time::timeout_at(deadline.into(), channel.wait(&queue, &mut completions))
                .await
                .unwrap_or(Err(CompletionError::TimedOut))?;
            flight.land(&mut completions)?;
        }
        Ok(())
    }

    /// Everything that has to hold before a byte moves; returns where in the peer's address space the transfer starts.
    fn check(&self, local: &MrSlice, remote: &RemoteRegion, offset: ByteLen) -> Result<u64, TransferError> {
        let (len, region) = (local.len(), remote.length());
        if offset.checked_add(len).is_none_or(|end| end > region) {
            return Err(TransferError::OutOfBounds { offset, len, region });
        }
        // A remote region doesn't reach beyond the address space, and the transfer lies inside it.
        let address = remote.address().get().wrapping_add(offset.get());
        if let Some(theirs) = remote.page_aligned() {
            theirs.check("the peer's", address, self.mtu)?;
        }
        if let Some(ours) = self.constraint(local.region().method())? {
            ours.check("the local", local.iova(), self.mtu)?;
        }
        Ok(address)
    }
}

/// A transfer under way. Dropped before its end, it takes the queue pair along.
struct Flight<'a> {
    endpoint: &'a mut Endpoint,
    operation: Operation,
    rkey: Rkey,
    /// What isn't posted yet, where it goes, and how much came before it.
    rest: MrSlice,
    address: u64,
    posted: u64,
    outstanding: u32,
}

impl<'a> Flight<'a> {
    fn new(
        endpoint: &'a mut Endpoint,
        operation: Operation,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
    ) -> Result<Self, TransferError> {
        let address = endpoint.check(local, remote, offset)?;
        let (rest, rkey) = (local.clone(), remote.rkey());
        Ok(Self { endpoint, operation, rkey, rest, address, posted: 0, outstanding: 0 })
    }

    /// Posts as many messages as may be outstanding; whether there is something to wait for.
    fn advance(&mut self) -> Result<bool, TransferError> {
        let qp = self.endpoint.qp.as_ref().ok_or(TransferError::Disconnected)?;
        while self.outstanding < self.endpoint.depth && !self.rest.is_empty() {
            let local = self.rest.take_front(self.endpoint.message);
            let id = WorkId(self.posted);
            let remote = RemoteTarget { address: self.address.wrapping_add(self.posted), rkey: self.rkey };
            match self.operation {
                Operation::Write => qp.post_write(id, &local, remote),
                Operation::Read => qp.post_read(id, &local, remote),
            }?;
            self.posted += local.len().get();
            self.outstanding += 1;
        }
        Ok(self.outstanding > 0)
    }

    /// Accounts for finished messages. They finish in order, so the first failure is the cause of the others.
    fn land(&mut self, completions: &mut Vec<Completion>) -> Result<(), TransferError> {
        for Completion { id: WorkId(offset), result, .. } in completions.drain(..) {
            if let Err(source) = result {
                // The queue pair is in its error state, whether or not more is outstanding.
                self.endpoint.qp = None;
                return Err(TransferError::Work { operation: self.operation, offset, source });
            }
            self.outstanding = self.outstanding.saturating_sub(1);
        }
        Ok(())
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if self.outstanding > 0 {
            self.endpoint.qp = None;
        }
    }
}
