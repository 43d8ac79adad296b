//! Where memory comes from: one module a source.
//!
//! A [`Source`] stands behind each region, and yields a descriptor for each lease.

use std::os::fd::OwnedFd;

use peermem_proto::{ByteLen, ByteRange, DmaAddr, Fault, LeaseId, RegionName, varlink::CallError};

use self::{dax::Dax, p2pmem::Keeper, vfio::BarOf};
use crate::{
    core::{MemoryId, Placed, Reach},
    functions::{Functions, Wanted},
};

pub mod dax;
mod emulated;
mod fdinfo;
pub mod p2pmem;
mod registered;
pub mod vfio;

pub use emulated::spec as emulated_spec;
pub use p2pmem::{P2pmem, Rules as P2pmemRules, discover as discover_p2pmem};
pub use registered::{Dmabuf, Exporters, spec as registered_spec};

/// Memory carved for one lease.
#[derive(Debug)]
pub struct Carved {
    /// What the client gets: a dma-buf, or something to mmap.
    pub fd: OwnedFd,
    /// Where the lease starts inside it, in bytes.
    pub offset: ByteLen,
    /// Where the lease starts in the region, where the provider tells.
    pub place: Option<ByteLen>,
    /// Where initiators that the daemon owns see it.
    pub addresses: Vec<DmaAddr>,
    /// The device of such an initiator, for the client to drive.
    pub device: Option<OwnedFd>,
}

impl Carved {
    /// Memory that begins at `offset` in what `fd` leads to, and of which no more is to be said.
    pub fn new(fd: OwnedFd, offset: ByteLen) -> Self {
        Self { fd, offset, place: None, addresses: Vec::new(), device: None }
    }

    /// What the core must know of it.
    ///
    /// # Errors
    /// A [`Fault`] where fstat(2) fails.
    pub fn placed(&self, region: &RegionName) -> Result<Placed, Fault> {
        Ok(Placed { memory: self.memory(region)?, offset: self.place, addresses: self.addresses.clone() })
    }

    /// The descriptors, in the order in which they travel.
    pub fn into_descriptors(self) -> Vec<OwnedFd> {
        std::iter::once(self.fd).chain(self.device).collect()
    }

    /// What the descriptor leads to.
    ///
    /// # Errors
    /// A [`Fault`] where fstat(2) fails.
    pub fn memory(&self, region: &RegionName) -> Result<MemoryId, Fault> {
        let stat = rustix::fs::fstat(&self.fd).map_err(|errno| fault(region, "fstat", errno))?;
        Ok(MemoryId { device: stat.st_dev, inode: stat.st_ino, offset: self.offset })
    }
}

/// What stands behind a region.
#[derive(Debug)]
pub enum Source {
    /// The pool of a PCI function, which the daemon holds.
    Held(Box<Keeper>),
    /// The pool of a PCI function, which the daemon only counts.
    Counted(P2pmem),
    /// A dma-buf that its owner registered.
    Registered(Dmabuf),
    /// A BAR of a function that the daemon owns. The function has others, which go where it goes.
    Vfio(BarOf),
    /// A device DAX.
    Dax(Dax),
    /// A fresh memfd for each lease.
    Emulated,
}

/// What came of a lease's wait for memory.
pub type Carving = (LeaseId, Result<Carved, CallError>);

impl Source {
    /// Gets the memory of one lease. What is there at once is returned, for this lease and for others that waited before it.
    pub fn carve(
        &mut self,
        functions: &mut Functions,
        region: &RegionName,
        lease: LeaseId,
        range: ByteRange,
        reach: &Reach,
    ) -> Vec<Carving> {
        let carved = match self {
            Self::Held(keeper) => return carvings(keeper.carve(lease, range.length())),
            Self::Counted(function) => function.carve(region, range.length()).map_err(Into::into),
            Self::Registered(dmabuf) => dmabuf.carve(region, range.offset()).map_err(Into::into),
            Self::Vfio(bar) => {
                functions.carve(*bar, &Wanted { region, lease, length: range.length(), reach })
            }
            Self::Dax(dax) => dax.carve(region).map_err(Into::into),
            Self::Emulated => emulated::carve(region, range.length()).map_err(Into::into),
        };
        vec![(lease, carved)]
    }
}

/// What a held pool's leases have come to, as what any lease may come to.
pub fn carvings(of_pool: Vec<p2pmem::Carving>) -> Vec<Carving> {
    of_pool.into_iter().map(|(lease, outcome)| (lease, outcome.map_err(Into::into))).collect()
}

/// The kernel's no to a provider, in words.
pub(crate) fn fault(region: &RegionName, operation: &str, reason: impl ToString) -> Fault {
    Fault::ProviderFailed {
        region: region.clone(),
        operation: operation.to_owned(),
        reason: reason.to_string(),
    }
}
