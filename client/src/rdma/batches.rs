//! Requests handed to the device in batches: one doorbell and one completion for several.

use std::{collections::VecDeque, time::Instant};

use super::{endpoint::Endpoint, loopback::Verb, transfer::TransferError};
use crate::verbs::{Completion, Done, PostError, Work, WorkId};

/// How many batches a full queue is made of. With fewer the device runs dry while a batch is collected; with more there
/// are more system calls and completions than it takes to keep it busy. Measured in `docs/performance.md`.
const BATCHES: u32 = 8;

/// How a thread waits for completions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Waiting {
    /// On the completion channel, after polling for as long as a short transfer takes.
    #[default]
    Asleep,
    /// By polling: the lowest latency, at the price of a core.
    Polling,
}

/// Requests of one endpoint, started one after the other and finished in that order.
#[derive(Debug)]
pub(super) struct Batches {
    /// Checked, and not yet handed over.
    collected: Vec<Work>,
    /// How many requests each batch under way has.
    handed_over: VecDeque<u32>,
    under_way: u32,
    /// How many make a batch.
    size: u32,
    /// Bytes of all that was ever started: what a failure is told by.
    started: u64,
    completions: Vec<Completion>,
}

/// The id of the receive in `slot`. Batches have the bytes before them for an id, which are fewer.
pub(super) fn receive_id(slot: u32) -> WorkId {
    WorkId(RECEIVE | u64::from(slot))
}

const RECEIVE: u64 = 1 << 63;

impl Batches {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        Self {
            collected: Vec::new(),
            handed_over: VecDeque::new(),
            under_way: 0,
            size: (endpoint.depth / BATCHES).max(1),
            started: 0,
            completions: Vec::new(),
        }
    }

    /// How many were started and aren't known to be finished.
    pub(super) fn len(&self) -> u32 {
        self.under_way + self.count_collected()
    }

    /// Whether the device has work of it.
    pub(super) fn are_under_way(&self) -> bool {
        self.under_way > 0
    }

    /// Starts one request, which has been checked. It may wait for others to be handed over with.
    ///
    /// # Errors
    /// [`TransferError::Full`] and [`TransferError::TooLong`] leave everything as it was.
    pub(super) fn push(&mut self, endpoint: &mut Endpoint, work: Work) -> Result<(), TransferError> {
        if self.len() >= endpoint.depth {
            return Err(TransferError::Full { depth: endpoint.depth });
        }
        let len = work.local().len();
        if len > endpoint.message {
            return Err(TransferError::TooLong { len, most: endpoint.message });
        }
        self.collected.push(work);
        if self.count_collected() >= self.size { self.hand_over(endpoint) } else { Ok(()) }
    }

    /// Hands over what was collected.
    pub(super) fn hand_over(&mut self, endpoint: &mut Endpoint) -> Result<(), TransferError> {
        let count = self.count_collected();
        if count == 0 {
            return Ok(());
        }
        let qp = endpoint.qp.as_ref().ok_or(TransferError::Disconnected)?;
        let posted = qp.post_batch(WorkId(self.started), &self.collected);
        let bytes = self.collected.iter().map(|work| work.local().len().get()).sum::<u64>();
        self.collected.clear();
        if let Err(error) = posted {
            // Where the device refused, some of the batch may be under way, and nothing would tell of their end.
            if matches!(error, PostError::Refused(_)) {
                endpoint.qp = None;
            }
            return Err(error.into());
        }
        self.started += bytes;
        self.handed_over.push_back(count);
        self.under_way += count;
        Ok(())
    }

    /// Waits until something is completed, which [`land`](Self::land) accounts for.
    pub(super) fn wait(
        &mut self,
        endpoint: &Endpoint,
        waiting: Waiting,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        match waiting {
            Waiting::Asleep => endpoint.queue.wait(&mut self.completions, deadline),
            Waiting::Polling => endpoint.queue.busy_wait(&mut self.completions, deadline),
        }?;
        Ok(())
    }

    /// As [`wait`](Self::wait), without blocking a thread. Cancelling it loses nothing.
    #[cfg(feature = "async")]
    pub(super) async fn wait_async(
        &mut self,
        endpoint: &Endpoint,
        channel: &crate::verbs::AsyncChannel,
        deadline: Instant,
    ) -> Result<(), TransferError> {
        use crate::verbs::CompletionError;
        let wait = channel.wait(&endpoint.queue, &mut self.completions);
        tokio::time::timeout_at(deadline.into(), wait).await.unwrap_or(Err(CompletionError::TimedOut))?;
        Ok(())
    }

    /// Accounts for what is completed; returns how many requests that were. They finish in order, so the first failure is the
    /// cause of the others. `received` gets the slots of receives.
    pub(super) fn land(
        &mut self,
        endpoint: &mut Endpoint,
        verb: Verb,
        mut received: impl FnMut(u32, Done),
    ) -> Result<u32, TransferError> {
        let mut finished = 0;
        for Completion { id: WorkId(id), result, .. } in self.completions.drain(..) {
            match result {
                // A slot has 32 bits.
                #[allow(clippy::cast_possible_truncation)]
                Ok(done) if id & RECEIVE != 0 => received(id as u32, done),
                Ok(_) => finished += self.handed_over.pop_front().unwrap_or_default(),
                Err(source) => {
                    // The queue pair is in its error state, whether or not more is outstanding.
                    endpoint.qp = None;
                    return Err(if id & RECEIVE != 0 {
                        TransferError::Receive { source }
                    } else {
                        TransferError::Work { verb, offset: id, source }
                    });
                }
            }
        }
        self.under_way -= finished;
        Ok(finished)
    }

    fn count_collected(&self) -> u32 {
        u32::try_from(self.collected.len()).unwrap_or(u32::MAX)
    }
}
