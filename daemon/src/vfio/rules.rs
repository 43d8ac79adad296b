//! What the administrator gave to the daemon of what is bound to vfio-pci.

use std::collections::{BTreeMap, BTreeSet};

use peermem_proto::{PciAddress, RegionName};
use serde::Deserialize;

use crate::{mapper::AddressBits, sys::vfio::BarIndex};

/// Which functions the daemon takes, and what for. No function is both: whoever drives an initiator has its descriptor, and
/// so all of its BARs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// BARs that are memory, and what their regions are called.
    pub bars: BTreeMap<PciAddress, BTreeMap<BarIndex, RegionName>>,
    /// Functions that memory may be mapped for.
    pub initiators: BTreeMap<PciAddress, InitiatorRules>,
    /// Those that are taken without an IOMMU too.
    pub no_iommu: BTreeSet<PciAddress>,
    /// By which interface all of them are taken.
    pub backend: Backend,
}

/// The kernel's interfaces to functions that have an IOMMU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backend {
    /// Containers where the kernel has them, else iommufd.
    #[default]
    Auto,
    /// IOMMU groups in containers of VFIO's.
    Container,
    /// The IOMMU's own user API, and each device's own file.
    Iommufd,
}

/// How a function is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Taking {
    /// By which interface, where it has an IOMMU.
    pub backend: Backend,
    /// Whether also where it hasn't.
    pub without_iommu: WithoutIommu,
}

/// What becomes of a function that has no IOMMU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WithoutIommu {
    /// It isn't taken.
    #[default]
    Refused,
    /// It is, as the administrator wants it: whoever drives it has all memory of the machine.
    Allowed,
}

impl Rules {
    /// How a function is taken.
    pub fn taking(&self, device: PciAddress) -> Taking {
        let allowed = self.no_iommu.contains(&device);
        let without_iommu = if allowed { WithoutIommu::Allowed } else { WithoutIommu::Refused };
        Taking { backend: self.backend, without_iommu }
    }
}

/// How an initiator is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InitiatorRules {
    /// What it can emit.
    pub address_bits: AddressBits,
    /// Whether a client may have the device itself.
    pub give_device: bool,
}
