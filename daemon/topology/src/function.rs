//! A PCI function.

use peermem_proto::{BusAddr, ByteLen, PciAddress};
use serde::{Deserialize, Serialize};

use crate::{
    acs::Acs,
    id::{Class, PciId, RootBus},
    link::Link,
    name::DeviceName,
};

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
    /// The group that vfio made up for it, where no IOMMU translates what it emits and vfio was told to take it all the same
    /// (`vfio_noiommu_group_alloc` in `drivers/vfio/group.c`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_iommu_group: Option<u32>,
    /// What the verdict doesn't depend on.
    #[serde(default, skip_serializing_if = "Details::is_empty")]
    pub details: Details,
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

/// What speed, size and placement depend on. All of it may be missing: from a tree that was recorded without, or on a
/// machine whose sysfs doesn't say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Details {
    /// The driver that is bound to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<DeviceName>,
    /// The NUMA node that it is next to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numa_node: Option<u32>,
    /// The IOMMU group that it belongs to; `None` without an IOMMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iommu: Option<IommuGroup>,
    /// The N of its own file `/dev/vfio/devices/vfioN`, where it is bound for user space and the kernel has such files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vfio_device: Option<u32>,
    /// Its PCI Express link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Its memory BARs that have a size. A bridge's windows aren't among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bars: Vec<Bar>,
    /// The physical function, if this is a virtual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub physical_function: Option<PciAddress>,
    /// Its memory that the kernel gives out for peer-to-peer DMA.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p2pmem: Option<P2pmem>,
}

impl Details {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it is bound for user space: vfio-pci itself, or a variant of it, each of which has `vfio` in its name
    /// (`drivers/vfio/pci`).
    pub fn is_vfio_bound(&self) -> bool {
        self.driver.as_ref().is_some_and(|driver| driver.as_str().contains("vfio"))
    }
}

/// What the IOMMU isolates as one, and how it translates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IommuGroup {
    /// Its number.
    pub number: u32,
    /// The type of its domain, as `iommu_group/type` says; `None` when it can't be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<IommuDomain>,
}

/// The types of an IOMMU domain: `iommu_group_show_type` in `drivers/iommu/iommu.c`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum IommuDomain {
    /// The kernel's DMA API translates, and forgets a mapping at once when it ends.
    #[serde(rename = "DMA")]
    Dma,
    /// The kernel's DMA API translates, and forgets ended mappings in batches.
    #[serde(rename = "DMA-FQ")]
    DmaFq,
    /// Addresses pass untranslated.
    #[serde(rename = "identity")]
    Identity,
    /// All DMA is blocked.
    #[serde(rename = "blocked")]
    Blocked,
    /// Someone else translates, such as vfio for user space.
    #[serde(rename = "unmanaged")]
    Unmanaged,
}

/// A memory BAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Its number, 0 to 5: the `N` of sysfs's `resourceN`.
    pub index: u8,
    /// Its size now.
    pub size: ByteLen,
    /// Whether it is 64 bits wide, so that it may lie above 4 GiB.
    pub wide: bool,
    /// Whether reads have no side effects: memory is like that, and registers mostly aren't.
    pub prefetchable: bool,
    /// Where it is on the bus; `None` on a root bus, where nothing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bus_address: Option<BusAddr>,
    /// The sizes that it can be given; empty when it can't be resized.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resizable_to: Vec<ByteLen>,
}

/// Device memory in the kernel's allocator for peer-to-peer DMA: the `p2pmem` directory in sysfs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct P2pmem {
    /// How much there is.
    pub size: ByteLen,
    /// How much of it nobody has.
    pub available: ByteLen,
    /// Whether drivers may hand it to others than themselves.
    pub published: bool,
}
