//! Transfers: checked before the first byte, split into messages, pipelined.

use std::{fmt, time::Instant};

use peermem_proto::ByteLen;
use thiserror::Error;

use super::{
    batches::Waiting, constraint::Unaligned, endpoint::Endpoint, loopback::Verb, pipeline::Pipeline,
    quirks::Unusable, remote::RemoteRegion,
};
#[cfg(feature = "async")]
use crate::verbs::AsyncChannel;
use crate::verbs::{CompletionError, MrSlice, PostError, WorkError};

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

impl From<Operation> for Verb {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Write => Self::Write,
            Operation::Read => Self::Read,
        }
    }
}

/// Why the bytes didn't move. Up to `TooLong`, nothing was started and the endpoint stays as it was.
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
    /// As many messages as may be are under way.
    #[error("{depth} messages are under way, as many as the endpoint has room for: wait for some first")]
    Full {
        /// How many those are.
        depth: u32,
    },
    /// One message can't carry it.
    #[error("{len} don't fit in one message of this endpoint, which carries {most}")]
    TooLong {
        /// How long it is.
        len: ByteLen,
        /// What a message carries.
        most: ByteLen,
    },
    /// A message wasn't posted.
    #[error(transparent)]
    Post(#[from] PostError),
    /// A message failed.
    #[error("the {verb} failed, in a message at or after offset {offset:#x}")]
    Work {
        /// What it was.
        verb: Verb,
        /// Where in all that was transferred the batch of messages starts that has the one that failed.
        offset: u64,
        /// Why.
        source: WorkError,
    },
    /// A message wasn't received.
    #[error("a message of the peer's wasn't received")]
    Receive {
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
        let mut transfer = Transfer::new(self, operation, local, remote, offset)?;
        while transfer.advance()? {
            transfer.pipeline.wait(Waiting::Asleep, deadline)?;
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
        // Registered anew for each transfer: the endpoint may have moved to another runtime since the last.
        let channel = AsyncChannel::new(self.queue.channel())?;
        let mut transfer = Transfer::new(self, operation, local, remote, offset)?;
        while transfer.advance()? {
            transfer.pipeline.wait_async(&channel, deadline).await?;
        }
        Ok(())
    }

    /// Everything that has to hold before a byte moves; returns where in the peer's address space the transfer starts.
    pub(super) fn check(
        &self,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
    ) -> Result<u64, TransferError> {
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

/// A transfer under way, cut into messages. Dropped before its end, it takes the queue pair along.
struct Transfer<'a> {
    pipeline: Pipeline<'a>,
    message: ByteLen,
    remote: &'a RemoteRegion,
    /// What isn't started yet, and where it goes.
    rest: MrSlice,
    offset: ByteLen,
}

impl<'a> Transfer<'a> {
    fn new(
        endpoint: &'a mut Endpoint,
        operation: Operation,
        local: &MrSlice,
        remote: &'a RemoteRegion,
        offset: ByteLen,
    ) -> Result<Self, TransferError> {
        endpoint.check(local, remote, offset)?;
        if !endpoint.is_connected() {
            return Err(TransferError::Disconnected);
        }
        let message = endpoint.message;
        Ok(Self { pipeline: endpoint.pipeline(operation), message, remote, rest: local.clone(), offset })
    }

    /// Starts as many messages as may be under way; whether there is something to wait for.
    fn advance(&mut self) -> Result<bool, TransferError> {
        while !self.rest.is_empty() && self.pipeline.has_room() {
            let local = self.rest.take_front(self.message);
            let len = local.len();
            self.pipeline.start(local, self.remote, self.offset)?;
            // Inside the region, as was checked.
            self.offset = ByteLen::new(self.offset.get().wrapping_add(len.get()));
        }
        Ok(!self.pipeline.is_empty())
    }
}
