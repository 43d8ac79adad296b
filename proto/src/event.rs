//! What `Watch` streams.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{id::RegionName, lease::Lease, region::Region};

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseEnd {
    /// Its owner gave it back.
    Unmapped,
    /// Its owner closed the connection or died.
    OwnerGone,
    /// Its region went away.
    RegionGone,
    /// The daemon is stopping.
    DaemonStopping,
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unmapped => "given back",
            Self::OwnerGone => "its owner has gone",
            Self::RegionGone => "its region has gone",
            Self::DaemonStopping => "the daemon is stopping",
        })
    }
}

/// Something that happened to a region or a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A region appeared.
    RegionAdded {
        /// The region.
        region: Region,
    },
    /// A region went away, and every lease in it with it.
    RegionGone {
        /// Its name.
        name: RegionName,
    },
    /// A lease was granted.
    LeaseGranted {
        /// The lease.
        lease: Lease,
    },
    /// A lease ended.
    LeaseEnded {
        /// The lease, as it was.
        lease: Lease,
        /// Why.
        reason: LeaseEnd,
    },
}
