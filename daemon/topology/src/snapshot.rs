//! What sysfs said at one moment.

use std::collections::BTreeMap;

use peermem_proto::{ByteLen, PciAddress, RdmaName};
use serde::{Deserialize, Serialize};

use crate::{cpu::Cpu, function::Function, id::NodeGuid, name::DeviceName};

/// The machine's PCI functions and what hangs at them: all that the kernel's verdict depends on, and what people want
/// to know besides.
///
/// Plain data: it serialises, so that a tree recorded on one machine can be asked about on another. No value of it
/// can make a question panic: a bridge that is named and not there counts as one whose ACS can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Where it comes from, in words: recorded where, or composed by hand. Nothing depends on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The CPU, when it is an x86.
    pub cpu: Option<Cpu>,
    /// Every PCI function, by its address.
    pub functions: BTreeMap<PciAddress, Function>,
    /// Every RDMA device, by its name.
    pub rdma: BTreeMap<RdmaName, Attachment>,
    /// How RDMA devices appear in the network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub networks: BTreeMap<RdmaName, Network>,
    /// Every NVMe controller on PCI, by its name (`nvme0`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nvme: BTreeMap<DeviceName, Nvme>,
    /// The PCI function behind every graphics or accelerator node (`card0`, `renderD128`, `accel0`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub nodes: BTreeMap<DeviceName, PciAddress>,
    /// Every device DAX, by its name (`dax0.0`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub dax: BTreeMap<DeviceName, Dax>,
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

/// How an RDMA device appears in the network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// The network interfaces of its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub netdevs: Vec<DeviceName>,
    /// Its node GUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_guid: Option<NodeGuid>,
}

/// An NVMe controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nvme {
    /// Its PCI function.
    pub address: PciAddress,
    /// Whether it has a Controller Memory Buffer (CMB).
    #[serde(default)]
    pub cmb: bool,
    /// The block devices of its namespaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<DeviceName>,
}

/// A device DAX: memory with ordinary pages that any device may be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dax {
    /// How much there is.
    pub size: ByteLen,
    /// The PCI function that it belongs to; persistent memory on the memory bus has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<PciAddress>,
}
