//! What registration of device memory depends on, and what mends it: said once, for errors and for `peermemctl doctor`.

use peermem_proto::Method;

/// How a process gets to pin more memory.
pub const RAISE_MEMLOCK: &str =
    "raise it with `ulimit -l`, LimitMEMLOCK= in the systemd unit or /etc/security/limits.d";

/// What a method takes of kernel, library and device.
pub const fn needs(method: Method) -> &'static str {
    match method {
        Method::Dmabuf => "Linux 5.12, rdma-core 34 and a device driver that has it; stock rdma_rxe doesn't",
        Method::OnDemand => {
            "CONFIG_INFINIBAND_ON_DEMAND_PAGING and a device that has it: mlx5, or rdma_rxe since Linux 6.15"
        }
        Method::Pinned => "no more than an RDMA device that works: see the kernel's log",
    }
}

/// The command that gives an Ethernet interface room for packets of path MTU 4096, the largest there is, and their headers.
pub fn raise_mtu(interface: &str) -> String {
    format!("ip link set {interface} mtu 9000")
}

/// Something that a kernel has since some version, if it was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelFeature {
    /// The stable name of the check for it.
    pub check: &'static str,
    /// What it is.
    pub name: &'static str,
    /// The option that it takes, without `CONFIG_`.
    pub option: &'static str,
    /// The first version that has it.
    pub since: (u32, u32),
    /// What doesn't work without it.
    pub why: &'static str,
}

/// What device memory depends on in the kernel.
pub const KERNEL_FEATURES: [KernelFeature; 4] = [
    KernelFeature {
        check: "kernel-p2pdma",
        name: "peer-to-peer DMA with mappable device memory",
        option: "PCI_P2PDMA",
        since: (6, 2),
        why: "without it there are no p2pmem pools (NVMe CMB), and no direct way between PCI devices",
    },
    KernelFeature {
        check: "kernel-on-demand",
        name: "on-demand paging",
        option: "INFINIBAND_ON_DEMAND_PAGING",
        since: (3, 19),
        why: "p2pmem pages can't be pinned: on-demand regions are their only way into an MR",
    },
    KernelFeature {
        check: "kernel-dmabuf",
        name: "registration of dma-bufs as MRs",
        option: "DMA_SHARED_BUFFER",
        since: (5, 12),
        why: "GPU memory and vfio BARs become MRs as dma-bufs only",
    },
    KernelFeature {
        check: "kernel-vfio-dmabuf",
        name: "export of vfio-pci BARs as dma-bufs",
        option: "VFIO_PCI_DMABUF",
        since: (6, 19),
        why: "without it the BARs of functions bound to vfio-pci can't become MRs",
    },
];
