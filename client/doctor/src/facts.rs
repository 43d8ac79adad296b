//! What a look at the machine found: plain data, which serialises.

use std::collections::{BTreeMap, BTreeSet};

use peermem::{
    rdma::OnDemand,
    verbs::{Mtu, PortState},
};
use peermem_proto::{ByteLen, PciAddress, RdmaName, Region, status::Status};
use peermem_topology::Snapshot;
use serde::{Deserialize, Serialize};

use crate::recommendation::Recommendation;

/// A fact, or why it could not be seen.
pub type Seen<T> = Result<T, Unseen>;

/// Why something could not be seen, with what would let it be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unseen(pub String);

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// All that the checks judge by.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The kernel's release, as `uname -r` says it.
    pub kernel_release: Seen<String>,
    /// The kernel options that are set (`y` or `m`), without `CONFIG_`.
    pub kernel_options: Seen<BTreeSet<String>>,
    /// The PCI tree, and what hangs at it.
    pub topology: Seen<Snapshot>,
    /// RDMA devices.
    pub rdma: Vec<RdmaDevice>,
    /// Locked-memory limits.
    pub memlock: Memlock,
    /// The peer-memory interface of RDMA drivers from outside the kernel.
    pub peer_memory: PeerMemory,
    /// What drivers hold of the p2pmem pools for themselves, where it can be told.
    pub driver_shares: BTreeMap<PciAddress, ByteLen>,
    /// Bytes of graphics memory, where the driver says.
    pub vram: BTreeMap<PciAddress, ByteLen>,
    /// Whether PCIe Relaxed Ordering is enabled in the functions of RDMA devices.
    pub relaxed_ordering: BTreeMap<PciAddress, Seen<bool>>,
    /// How many NUMA nodes the machine has, where the kernel says.
    pub numa_nodes: Option<usize>,
    /// The daemon.
    pub daemon: Seen<Daemon>,
    /// What was measured between regions, and kept.
    pub recommendations: Vec<Seen<Recommendation>>,
}

/// What an RDMA device answers, and what its node is like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdmaDevice {
    /// Its name.
    pub name: RdmaName,
    /// The device node that verbs go through, such as `/dev/infiniband/uverbs0`.
    pub node: Seen<Node>,
    /// What it answers; unseen when it can't be opened.
    pub answers: Seen<Answers>,
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its path.
    pub path: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether this process may open it to read and write.
    pub permitted: bool,
}

/// What an open RDMA device answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// Why dma-bufs can't be registered; `None` when they can.
    pub dmabuf_refusal: Option<String>,
    /// Whether it claims on-demand paging for RDMA reads and writes.
    pub on_demand_claimed: bool,
    /// What a short self-test of its first port found on-demand regions to do.
    pub on_demand_measured: Seen<OnDemand>,
    /// Its ports, from 1 on.
    pub ports: Vec<Port>,
}

/// An RDMA device's port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Whether it carries traffic.
    pub state: PortState,
    /// Whether it is on Ethernet.
    pub ethernet: bool,
    /// The path MTU in use.
    pub active_mtu: Option<Mtu>,
    /// The largest that it can be configured for.
    pub max_mtu: Option<Mtu>,
}

/// How much memory may be locked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memlock {
    /// This process's limit.
    pub own: Limit,
    /// Whether the limit doesn't count for this process (`CAP_IPC_LOCK`).
    pub exempt: bool,
    /// A systemd unit's limit, if one was asked for.
    pub unit: Option<UnitMemlock>,
}

/// A systemd unit's limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitMemlock {
    /// The unit.
    pub unit: String,
    /// Its limit.
    pub limit: Seen<Limit>,
}

/// A limit on bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// At most that.
    Bytes(ByteLen),
    /// None.
    Unlimited,
}

/// The peer-memory interface (`ib_register_peer_memory_client`), which drivers from outside the kernel bring.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerMemory {
    /// The drivers that matter here and are loaded: `nvidia`, `nvidia_peermem`, `nv_peer_mem`, `amdgpu`.
    pub modules: BTreeSet<String>,
    /// Who is registered: the folders of `/sys/kernel/mm/memory_peers`.
    pub clients: BTreeSet<String>,
    /// Whether the kernel has the interface's symbol; `None` when that can't be seen.
    pub interface: Option<bool>,
}

/// The daemon, as it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its socket.
    pub socket: String,
    /// Its state.
    pub status: Status,
    /// Its regions.
    pub regions: Vec<Region>,
    /// What it maps of each p2pmem pool: it holds what isn't leased, so that leases are bounds.
    pub holds: Seen<BTreeMap<PciAddress, ByteLen>>,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}
