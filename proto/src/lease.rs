//! A lease as it is listed and granted.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, LeaseId, RegionName},
    mapping::{Direction, Method, Path, Revocation},
    size::ByteLen,
    time::Moment,
};

/// Whose lease it is: the peer credentials of the socket, as the kernel gave them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Process id at the time of the connection.
    pub pid: u32,
}

/// Why a lease was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// Somebody whom the policy lets revoke asked for it.
    Administrator,
    /// A new policy no longer lets its owner map this.
    Policy,
    /// Its time is over.
    Expired,
    /// The owner of the registered region asked for it.
    RegionOwner,
}

impl fmt::Display for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Administrator => "revoked by the administrator",
            Self::Policy => "the policy no longer allows it",
            Self::Expired => "expired",
            Self::RegionOwner => "revoked by the region's owner",
        })
    }
}

/// How far a lease has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LeaseState {
    /// Held.
    Active {},
    /// Revoked, and the client still has the memory: it must drop its memory regions and mappings and give the lease back.
    /// Where revocation is enforced, the memory is taken back when it has had time enough.
    Revoked {
        /// Why.
        reason: Revoked,
        /// When.
        at: Moment,
        /// `true` once the client has had time enough.
        overdue: bool,
    },
}

impl LeaseState {
    /// Whether the client keeps memory past its right and past the time to let go.
    pub const fn is_overdue(self) -> bool {
        matches!(self, Self::Revoked { overdue: true, .. })
    }
}

impl fmt::Display for LeaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active {} => f.pad("active"),
            Self::Revoked { reason, overdue: false, .. } => write!(f, "{reason}"),
            Self::Revoked { reason, overdue: true, .. } => write!(f, "{reason}, overdue"),
        }
    }
}

/// The right to a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The region.
    pub region: RegionName,
    /// The region's generation at the time of the grant.
    pub generation: Generation,
    /// Where it starts inside the region. 0 in a pool whose memory has no places: there every lease is memory of its own.
    pub offset: ByteLen,
    /// Its length in bytes.
    pub length: ByteLen,
    /// The devices that do the DMA, and the way of each.
    pub paths: Vec<Path>,
    /// What those devices do.
    pub direction: Direction,
    /// How the mapping becomes an MR.
    pub method: Method,
    /// What the end of the lease does.
    pub revocation: Revocation,
    /// `true` when the memory is host memory that plays device memory.
    pub emulated: bool,
    /// Who holds it.
    pub owner: Owner,
    /// When it is revoked unless it is renewed; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Moment>,
    /// How far it has come.
    pub state: LeaseState,
    /// `true` after a restart of the daemon, until its client has come back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
}
