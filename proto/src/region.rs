//! A region as it is listed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Generation, RegionName},
    mapping::{Method, Revocation},
    pci::PciAddress,
    size::ByteLen,
};

/// Where a region's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// A PCI function that publishes `p2pmem` in sysfs, such as an NVMe drive's Controller Memory Buffer.
    P2pmem,
    /// A dma-buf that its owner process registered.
    Registered,
    /// A BAR of a PCI function that is bound to vfio-pci, which the config declares to be memory.
    Vfio,
    /// A device DAX: CXL memory, persistent memory.
    Dax,
    /// Host memory that plays device memory, for development.
    Emulated,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::P2pmem => "p2pmem",
            Self::Registered => "registered",
            Self::Vfio => "vfio",
            Self::Dax => "dax",
            Self::Emulated => "emulated",
        })
    }
}

/// How a region is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Carved into leases: each one is memory of its own, asked for by size.
    Pool,
    /// Shared by offset: leases may overlap and see the same bytes.
    Window,
}

/// Who may map a registered region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sharing {
    /// The user who registered it, and root.
    #[default]
    Owner,
    /// Everyone who may connect to the daemon.
    Everyone,
}

/// A named piece of provider memory, as `ListRegions` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Its name, unique on the node.
    pub name: RegionName,
    /// Which appearance of the region this is.
    pub generation: Generation,
    /// Where the memory comes from.
    pub provider: ProviderKind,
    /// The PCI function that owns the memory; absent for emulated regions, and for a device DAX that isn't on PCI. For a registered region it is what the
    /// owner declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<PciAddress>,
    /// Pool or window.
    pub shape: Shape,
    /// All of it, in bytes.
    pub size: ByteLen,
    /// What may still be leased, in bytes. A window is never used up.
    pub free: ByteLen,
    /// Bytes whose leases have ended and that haven't come back yet, or that processes outside of the daemon hold.
    pub missing: ByteLen,
    /// How many leases it has.
    pub leases: u64,
    /// Offsets and lengths must be multiples of this many bytes.
    pub alignment: ByteLen,
    /// How a mapping of it becomes an MR.
    pub method: Method,
    /// What the end of a lease does.
    pub revocation: Revocation,
    /// `true` for host memory that plays device memory.
    pub emulated: bool,
    /// The user id of the process that registered it; absent for regions that the daemon found itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_uid: Option<u32>,
}
