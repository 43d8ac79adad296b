//! A lease as it is listed and granted.

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, LeaseId, RegionName},
    mapping::{Direction, Method, Path, Revocation},
    size::ByteLen,
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

/// The right to a mapping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Its number.
    pub id: LeaseId,
    /// The region.
    pub region: RegionName,
    /// The region's generation at the time of the grant.
    pub generation: Generation,
    /// Where it starts inside a window; 0 in a pool, where every lease is memory of its own.
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
}
