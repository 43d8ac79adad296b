//! What `Watch` streams.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::RegionName,
    lease::{Lease, Owner},
    region::Region,
};

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
    /// It had been revoked, and its owner has let go, or the memory was taken back.
    Revoked,
    /// Its client didn't come back after a restart of the daemon.
    NotResumed,
    /// A lease of the same device was revoked, and that device gives its memory back only as a whole.
    NeighbourRevoked,
    /// A device that it was mapped for went away.
    InitiatorGone,
}

impl LeaseEnd {
    /// As it is on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unmapped => "unmapped",
            Self::OwnerGone => "owner_gone",
            Self::RegionGone => "region_gone",
            Self::Revoked => "revoked",
            Self::NotResumed => "not_resumed",
            Self::NeighbourRevoked => "neighbour_revoked",
            Self::InitiatorGone => "initiator_gone",
        }
    }
}

impl fmt::Display for LeaseEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unmapped => "given back",
            Self::OwnerGone => "its owner has gone",
            Self::RegionGone => "its region has gone",
            Self::Revoked => "revoked, and let go",
            Self::NotResumed => "its client didn't come back after a restart",
            Self::NeighbourRevoked => {
                "a lease of the same device was revoked, which takes all of its memory back"
            }
            Self::InitiatorGone => "a device that it was mapped for has gone",
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
    /// A lease got another time to end.
    LeaseRenewed {
        /// The lease.
        lease: Lease,
    },
    /// A lease was passed on.
    LeaseDelegated {
        /// The lease, with its new owner.
        lease: Lease,
        /// Who had it before.
        from: Owner,
    },
    /// A lease was revoked, and its client must let go; its state says why.
    LeaseRevoked {
        /// The lease.
        lease: Lease,
    },
    /// The client of a revoked lease has had time enough, and hasn't let go.
    LeaseOverdue {
        /// The lease.
        lease: Lease,
    },
    /// A client came back after a restart of the daemon, and has its lease again.
    LeaseResumed {
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
    /// Somebody asked for a mapping, a lease or a region, and was refused.
    Refused {
        /// Who.
        owner: Owner,
        /// For which region, where the call names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<RegionName>,
        /// The refusal's code.
        code: String,
        /// The refusal in words.
        message: String,
    },
    /// A user was refused more than is told one by one.
    RefusalsLeftOut {
        /// The user.
        uid: u32,
        /// How many refusals weren't told since the last event of this kind about the user.
        count: u64,
    },
}

impl Event {
    /// The kind, as it is on the wire.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::RegionAdded { .. } => "region_added",
            Self::RegionGone { .. } => "region_gone",
            Self::LeaseGranted { .. } => "lease_granted",
            Self::LeaseRenewed { .. } => "lease_renewed",
            Self::LeaseDelegated { .. } => "lease_delegated",
            Self::LeaseRevoked { .. } => "lease_revoked",
            Self::LeaseOverdue { .. } => "lease_overdue",
            Self::LeaseResumed { .. } => "lease_resumed",
            Self::LeaseEnded { .. } => "lease_ended",
            Self::Refused { .. } => "refused",
            Self::RefusalsLeftOut { .. } => "refusals_left_out",
        }
    }
}
