//! Messages under way on one endpoint, several at a time.

use std::time::Instant;

use peermem_proto::ByteLen;

use super::{
    batches::{Batches, Waiting},
    endpoint::Endpoint,
    remote::RemoteRegion,
    transfer::{Operation, TransferError},
};
use crate::verbs::{MrSlice, RemoteTarget, Work};

/// Messages of one endpoint, started one after the other and finished in that order. They are handed to the device in
/// batches: one doorbell and one completion for several.
///
/// Dropped with messages under way, it ends the connection, so that no byte of the local memory moves any more.
#[derive(Debug)]
pub struct Pipeline<'a> {
    endpoint: &'a mut Endpoint,
    batches: Batches,
    operation: Operation,
}

impl Endpoint {
    /// A pipeline of `operation`s.
    pub fn pipeline(&mut self, operation: Operation) -> Pipeline<'_> {
        let batches = Batches::new(self);
        Pipeline { endpoint: self, batches, operation }
    }
}

impl Pipeline<'_> {
    /// Whether another message may be started.
    pub fn has_room(&self) -> bool {
        self.batches.len() < self.endpoint.depth
    }

    /// Whether there is nothing to wait for.
    pub fn is_empty(&self) -> bool {
        self.batches.len() == 0
    }

    /// Starts one message between `local` and the peer's memory from `offset` in `remote` on. It may wait for others to be
    /// handed over with; [`Pipeline::wait`] leaves none behind.
    ///
    /// # Errors
    ///
    /// [`TransferError`]. [`TransferError::Full`] and [`TransferError::TooLong`] like those of the checks leave everything as
    /// it was.
    pub fn start(
        &mut self,
        local: MrSlice,
        remote: &RemoteRegion,
        offset: ByteLen,
    ) -> Result<(), TransferError> {
        let address = self.endpoint.check(&local, remote, offset)?;
        let remote = RemoteTarget { address, rkey: remote.rkey() };
        let work = match self.operation {
            Operation::Write => Work::Write { local, remote },
            Operation::Read => Work::Read { local, remote },
        };
        self.batches.push(self.endpoint, work)
    }

    /// Hands over what waits for others to be handed over with.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn flush(&mut self) -> Result<(), TransferError> {
        self.batches.hand_over(self.endpoint)
    }

    /// Waits until at least one batch is finished; returns how many messages that were. 0 when nothing was started.
    ///
    /// # Errors
    ///
    /// [`TransferError`].
    pub fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32, TransferError> {
        self.flush()?;
        if self.is_empty() {
            return Ok(0);
        }
        self.batches.wait(self.endpoint, waiting, deadline)?;
        self.land()
    }

    /// As [`wait`](Self::wait), without blocking a thread. Cancelling it loses nothing; dropping the pipeline then ends the
    /// connection.
    #[cfg(feature = "async")]
    pub(super) async fn wait_async(
        &mut self,
        channel: &crate::verbs::AsyncChannel,
        deadline: Instant,
    ) -> Result<u32, TransferError> {
        self.flush()?;
        if self.is_empty() {
            return Ok(0);
        }
        self.batches.wait_async(self.endpoint, channel, deadline).await?;
        self.land()
    }

    fn land(&mut self) -> Result<u32, TransferError> {
        // Nothing is sent to this side's receives here.
        self.batches.land(self.endpoint, self.operation.into(), |_, _| {})
    }
}

impl Drop for Pipeline<'_> {
    fn drop(&mut self) {
        if self.batches.are_under_way() {
            self.endpoint.qp = None;
        }
    }
}
