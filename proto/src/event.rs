//! What `Watch` streams.

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
