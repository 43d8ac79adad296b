//! Which functions have memory to give, which devices do DMA, and what people call them.

use std::collections::BTreeMap;

use peermem_proto::{ByteLen, Initiator, PciAddress};
use serde::{Deserialize, Serialize};

use crate::{
    function::Function,
    id::Class,
    snapshot::{Attachment, Snapshot},
};

/// A prefetchable BAR of this size is memory more likely than registers: those of network cards end at 32 MiB.
const MEMORY_SIZED: ByteLen = ByteLen::new(64 << 20);

/// How a function's memory can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryKind {
    /// Given out by the kernel's allocator for peer-to-peer DMA.
    P2pmem,
    /// A Controller Memory Buffer that isn't in that allocator.
    Cmb,
    /// Given out by a graphics or accelerator driver.
    Gpu,
    /// Given out by whoever drives the function from user space.
    Vfio,
    /// A BAR that looks like memory, and no one of the above.
    Bar,
}

impl Snapshot {
    /// The functions that have memory to give, with the ways to have it.
    pub fn providers(&self) -> BTreeMap<PciAddress, Vec<MemoryKind>> {
        let kinds = |(&address, function)| (address, self.memory(address, function));
        self.functions.iter().map(kinds).filter(|(_, kinds)| !kinds.is_empty()).collect()
    }

    /// The devices that do DMA to others' memory: RDMA devices, then NVMe controllers and GPUs by their address.
    pub fn initiators(&self) -> Vec<Initiator> {
        let functions = self.functions.iter();
        let dma = functions
            .filter(|&(&address, function)| is_nvme(function.class) || self.is_gpu(address, function));
        self.rdma
            .keys()
            .cloned()
            .map(Initiator::Rdma)
            .chain(dma.map(|(&address, _)| Initiator::Pci(address)))
            .collect()
    }

    /// The function that an initiator is or is attached to.
    pub fn function_of(&self, initiator: &Initiator) -> Option<PciAddress> {
        match initiator {
            Initiator::Pci(address) | Initiator::Vfio(address) => Some(*address),
            Initiator::Rdma(name) => match self.rdma.get(name)? {
                Attachment::Pci { address } => Some(*address),
                Attachment::Software {} | Attachment::Other {} => None,
            },
            Initiator::Emulated => None,
        }
    }

    /// The other functions of a function's IOMMU group, bridges left out: those do no DMA of their own.
    pub fn shares_group_with(&self, address: PciAddress) -> impl Iterator<Item = (PciAddress, &Function)> {
        let group_of = |function: &Function| function.details.iommu.map(|group| group.number);
        let group = self.functions.get(&address).and_then(group_of);
        let shares = move |&(&other, function): &(&PciAddress, &Function)| {
            group.is_some() && group_of(function) == group && other != address && !function.class.is_bridge()
        };
        self.functions.iter().filter(shares).map(|(&other, function)| (other, function))
    }

    /// What the kernel calls the devices at a function: `mlx5_0`, `nvme0`, `card0`, `renderD128`, `dax0.0`.
    pub fn names_at(&self, address: PciAddress) -> Vec<&str> {
        let is_here = |attachment: &Attachment| *attachment == Attachment::Pci { address };
        let rdma = self.rdma.iter().filter(|(_, a)| is_here(a)).map(|(name, _)| name.as_str());
        let nvme =
            self.nvme.iter().filter(|(_, nvme)| nvme.address == address).map(|(name, _)| name.as_str());
        let nodes = self.nodes.iter().filter(|(_, at)| **at == address).map(|(name, _)| name.as_str());
        let dax =
            self.dax.iter().filter(|(_, dax)| dax.address == Some(address)).map(|(name, _)| name.as_str());
        rdma.chain(nvme).chain(nodes).chain(dax).collect()
    }

    fn memory(&self, address: PciAddress, function: &Function) -> Vec<MemoryKind> {
        let details = &function.details;
        let has_cmb = self.nvme.values().any(|nvme| nvme.address == address && nvme.cmb);
        let published = details.p2pmem.is_some();
        let mut kinds: Vec<_> = [
            (published, MemoryKind::P2pmem),
            (has_cmb && !published, MemoryKind::Cmb),
            (self.is_gpu(address, function), MemoryKind::Gpu),
            (details.is_vfio_bound(), MemoryKind::Vfio),
        ]
        .into_iter()
        .filter_map(|(is, kind)| is.then_some(kind))
        .collect();
        if kinds.is_empty() && has_large_bar(function) {
            kinds.push(MemoryKind::Bar);
        }
        kinds
    }

    /// A display adapter alone is none: servers have one in their management controller.
    fn is_gpu(&self, address: PciAddress, function: &Function) -> bool {
        const DISPLAY: u32 = 0x03;
        const DISPLAY_3D: u32 = 0x0302;
        const PROCESSING_ACCELERATOR: u32 = 0x12;
        let class = function.class.get();
        let computes = |name: &str| name.starts_with("renderD") || name.starts_with("accel");
        class >> 16 == PROCESSING_ACCELERATOR
            || class >> 8 == DISPLAY_3D
            || class >> 16 == DISPLAY && has_large_bar(function)
            || self.nodes.iter().any(|(name, at)| *at == address && computes(name.as_str()))
    }
}

fn is_nvme(class: Class) -> bool {
    class.get() == 0x010802
}

fn has_large_bar(function: &Function) -> bool {
    function.details.bars.iter().any(|bar| bar.prefetchable && bar.size >= MEMORY_SIZED)
}
