//! What the two programs say to each other, over the connection that also connected their endpoints.

use std::time::{Duration, Instant};

use peermem::{proto::Lease, rdma::RemoteRegion};
use serde::{Deserialize, Serialize};

/// What the GPU's owner offers: its lease, and the descriptor by which the peer reaches the memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) lease: Lease,
    pub(crate) remote: RemoteRegion,
}

/// What the storage side asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Compare this part of the GPU's memory.
    Compare { offset: usize, length: usize },
    /// No more.
    Done,
}

/// The answer to [`Request::Compare`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compared {
    pub(crate) wrong: usize,
}

/// When a step that starts now must be over.
pub(crate) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}
