//! Leased memory, registered for RDMA.

use std::sync::Arc;

use peermem::{Client, Lease, Mapping, verbs::Access, verbs::ProtectionDomain};
use peermem_proto::{ByteLen, Direction, Extent, Initiator, RegionName, call::Map};

use crate::peers::{DEVICE, Side};

/// The guest's RDMA device, as the daemon knows it.
pub fn rxe() -> Initiator {
    format!("rdma:{DEVICE}").parse().unwrap()
}

/// What asks for `length` bytes of a pool, for any number of devices that read and write.
pub fn request(region: RegionName, length: ByteLen, initiators: &[Initiator]) -> Map {
    Map::new(region, Extent::Size(length), initiators.to_vec(), Direction::Bidirectional)
}

/// What asks for all of a window, likewise.
pub fn request_whole(region: RegionName, initiators: &[Initiator]) -> Map {
    Map::new(region, Extent::Whole, initiators.to_vec(), Direction::Bidirectional)
}

/// A lease and what came of it. The registration goes first, the lease last.
#[derive(Debug)]
pub struct Leased {
    /// The memory, as the CPU and the RDMA device see it.
    pub side: Side<Mapping>,
    /// The right to it.
    pub lease: Lease,
}

impl Leased {
    /// Leases what `request` says and registers it by the method that the daemon names.
    pub fn new(client: &Client, pd: &Arc<ProtectionDomain>, request: &Map) -> Self {
        let lease = client.map(request).unwrap();
        let region = lease.register(pd, Access::REMOTE_READ | Access::REMOTE_WRITE).unwrap();
        Self { side: Side { memory: lease.mapping().unwrap(), region }, lease }
    }
}
