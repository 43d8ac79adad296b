//! What sysfs said at one moment.

use std::collections::BTreeMap;

use peermem_proto::{PciAddress, RdmaName};
use serde::{Deserialize, Serialize};

use crate::{
    acs::Acs,
    cpu::Cpu,
    id::{Class, PciId, RootBus},
};

/// The machine's PCI functions and RDMA devices, and the little else that the kernel's verdict depends on.
///
/// Plain data: it serialises, so that a tree recorded on one machine can be asked about on another. No value of it
/// can make a question panic: a bridge that is named and not there counts as one whose ACS can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The CPU, when it is an x86.
    pub cpu: Option<Cpu>,
    /// Every PCI function, by its address.
    pub functions: BTreeMap<PciAddress, Function>,
    /// Every RDMA device, by its name.
    pub rdma: BTreeMap<RdmaName, Attachment>,
}

/// A PCI function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Vendor and device.
    pub id: PciId,
    /// What kind of function it is.
    pub class: Class,
    /// Whether it speaks PCI Express, not conventional PCI.
    pub express: bool,
    /// The root bus that it hangs below.
    pub root: RootBus,
    /// The bridges between the root bus and the function, from the root port down; empty on the root bus itself.
    pub upstream: Vec<PciAddress>,
    /// Its Access Control Services.
    pub acs: Acs,
}

impl Function {
    /// Whether it is a PCI Express root port.
    ///
    /// The port type itself is in configuration space, which takes privileges to read; but by the PCI Express Base
    /// Specification a root port is the only PCI-to-PCI bridge with a PCI Express capability on a root bus.
    pub fn is_root_port(&self) -> bool {
        self.express && self.class.is_bridge() && self.upstream.is_empty()
    }
}

/// What an RDMA device is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Attachment {
    /// The nearest PCI function above it, as the kernel's `find_parent_pci_dev` finds it.
    Pci {
        /// That function.
        address: PciAddress,
    },
    /// Nothing: it is software (rxe, siw), and a CPU copies.
    Software {},
    /// A bus other than PCI. It does DMA, and the kernel maps peer memory for PCI devices only.
    Other {},
}
