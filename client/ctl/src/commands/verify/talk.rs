//! What the two ends say to each other over TCP.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use peermem::{
    proto::{ByteLen, Method, Path, RegionName},
    rdma::{RemoteRegion, exchange},
};
use serde::{Deserialize, Serialize};

use super::{bytes::Wrong, report::Transfer};

/// How long one step may take: filling, moving or comparing the longest transfer, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// When a step that begins now must be done.
pub(in crate::commands) fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// What each end tells the other about its memory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::commands) struct Introduction {
    pub(in crate::commands) region: RegionName,
    pub(in crate::commands) method: Method,
    pub(in crate::commands) paths: Vec<Path>,
    pub(in crate::commands) emulated: bool,
    pub(in crate::commands) length: ByteLen,
    pub(in crate::commands) remote: RemoteRegion,
}

/// What the driving end wants of the serving one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum Request {
    /// Fill the front of your memory.
    Fill { seed: u64, length: usize },
    /// Compare it.
    Compare { seed: u64, length: usize, before: u64 },
    /// Post receives, and tell of them once you have answered.
    PostReceives,
    /// Take what I send until an empty message comes; you answer before it begins.
    Receive {
        /// Send each back.
        answer: bool,
        /// Wait by polling.
        poll: bool,
    },
    /// It went wrong here.
    GiveUp { why: String },
    /// That was all, with these results.
    Done { transfers: Vec<Transfer> },
}

/// What the serving end answers to all but the last request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::commands) enum Answer {
    /// It is done; `wrong` is what a comparison found.
    Done { wrong: Option<Wrong> },
    /// It failed.
    Failed { why: String },
}

/// Tells who we are, and learns who they are.
pub(super) fn exchange_introductions(stream: &TcpStream, ours: &Introduction) -> Result<Introduction> {
    let deadline = deadline();
    exchange::send(stream, ours, deadline)?;
    exchange::receive(stream, deadline).context("the other end didn't introduce itself")
}
