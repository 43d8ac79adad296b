//! The daemon's own state.

use serde::{Deserialize, Serialize};

/// What `GetStatus` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version, as in its package.
    pub version: String,
    /// The newest protocol version it speaks.
    pub protocol: u32,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_secs: u64,
    /// Open connections, this one included.
    pub connections: u64,
    /// Regions now known.
    pub regions: u64,
    /// Leases now held.
    pub leases: u64,
    /// Leases whose clients haven't come back yet after a restart.
    pub waiting: u64,
    /// Leases that were revoked and whose clients haven't let go in time.
    pub overdue: u64,
    /// Bytes now leased out of pools.
    pub leased_bytes: u64,
    /// `true` when emulated regions are switched on.
    pub emulation: bool,
    /// `true` once it was told to stop: it answers, and grants nothing.
    pub draining: bool,
    /// Why the config that was read last doesn't count, and the one before still does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_refused: Option<String>,
}
