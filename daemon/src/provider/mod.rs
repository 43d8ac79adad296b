//! Where memory comes from: one file a source.
//!
//! A [`Source`] stands behind each region, and yields a descriptor for each lease.

use std::os::fd::OwnedFd;

use peermem_proto::{ByteLen, ByteRange, Fault, RegionName};

mod emulated;
mod p2pmem;
mod registered;

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
}

/// What stands behind a region.
#[derive(Debug)]
pub enum Source {
    /// The `p2pmem/allocate` file of a PCI function.
    P2pmem(P2pmem),
    /// A dma-buf that its owner registered.
    Registered(Dmabuf),
    /// A fresh memfd for each lease.
    Emulated,
}

impl Source {
    /// Gets the memory of one lease.
    ///
    /// # Errors
    /// A [`Fault`] with the kernel's answer.
    pub fn carve(&self, region: &RegionName, range: ByteRange) -> Result<Carved, Fault> {
        match self {
            Self::P2pmem(function) => function.carve(region, range.length()),
            Self::Registered(dmabuf) => dmabuf.carve(region, range.offset()),
            Self::Emulated => emulated::carve(region, range.length()),
        }
    }
}

fn fault(region: &RegionName, operation: &str, reason: impl ToString) -> Fault {
    Fault::ProviderFailed {
        region: region.clone(),
        operation: operation.to_owned(),
        reason: reason.to_string(),
    }
}
