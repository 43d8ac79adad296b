//! A machine on which all is well, composed by hand: a drive with a CMB, an RDMA device and a GPU below one switch of an
//! AMD Zen. Every test takes it and breaks one thing.

use peermem::{
    rdma::OnDemand,
    verbs::{Mtu, PortState},
};
use peermem_doctor::{
    facts::{Answers, Daemon, Facts, Limit, Memlock, Node, PeerMemory, Port, RdmaDevice, UnitMemlock},
    recommendation::Recommendation,
};
use peermem_proto::{ByteLen, PciAddress};
use peermem_topology::{Function, Snapshot};
use serde_json::{Value, json};

pub(crate) const ROOT_PORT: &str = "0000:00:01.0";
pub(crate) const DRIVE_PORT: &str = "0000:02:00.0";
pub(crate) const DRIVE: &str = "0000:03:00.0";
pub(crate) const NIC: &str = "0000:04:00.0";
pub(crate) const GPU: &str = "0000:05:00.0";
pub(crate) const GIB: u64 = 1 << 30;
/// What the drive's queues take out of its 64 MiB.
pub(crate) const QUEUES: u64 = 128 << 10;

fn function(id: &str, class: &str, upstream: &[&str], details: Value) -> Value {
    json!({"id": id, "class": class, "express": true, "root": "0000:00", "upstream": upstream,
        "acs": {"control": "0x0000"}, "details": details})
}

fn snapshot() -> Snapshot {
    let link = json!({"current": "16.0 GT/s x8", "max": "16.0 GT/s x8"});
    let on = |more: Value| {
        let mut details = json!({"numa_node": 0, "link": link});
        details.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        details
    };
    let path = [ROOT_PORT, "0000:01:00.0"];
    let below = |port| [ROOT_PORT, "0000:01:00.0", port];
    let bridge = |upstream: &[&str]| function("1000:c010", "0x060400", upstream, on(json!({})));
    serde_json::from_value(json!({
        "cpu": {"vendor": "AuthenticAMD", "family": 0x19},
        "functions": {
            "0000:00:00.0": function("1022:14d8", "0x060000", &[], json!({"numa_node": 0})),
            ROOT_PORT: bridge(&[]),
            "0000:01:00.0": bridge(&[ROOT_PORT]),
            DRIVE_PORT: bridge(&path),
            "0000:02:01.0": bridge(&path),
            "0000:02:02.0": bridge(&path),
            DRIVE: function("144d:a824", "0x010802", &below(DRIVE_PORT), on(json!({
                "p2pmem": {"size": 64 << 20, "available": (64 << 20) - QUEUES, "published": true}}))),
            NIC: function("15b3:101d", "0x020000", &below("0000:02:01.0"), on(json!({}))),
            GPU: function("1002:73bf", "0x038000", &below("0000:02:02.0"), on(json!({
                "bars": [{"index": 0, "size": 16 * GIB, "wide": true, "prefetchable": true,
                    "resizable_to": [256 << 20, 16 * GIB]}]}))),
        },
        "rdma": {"mlx5_0": {"kind": "pci", "address": NIC}},
        "networks": {"mlx5_0": {"netdevs": ["enp4s0"]}},
        "nvme": {"nvme0": {"address": DRIVE, "cmb": true}},
        "nodes": {"renderD128": GPU},
    }))
    .unwrap()
}

fn daemon() -> Daemon {
    serde_json::from_value(json!({
        "socket": "/run/peermemd/peermemd.sock",
        "status": {"version": env!("CARGO_PKG_VERSION"), "protocol": 1, "pid": 1, "uptime_secs": 1, "connections": 1,
            "regions": 1, "leases": 0, "waiting": 0, "overdue": 0, "leased_bytes": 0, "emulation": false, "draining": false},
        "regions": [{"name": "cmb", "generation": 1, "provider": "p2pmem", "device": DRIVE, "shape": "pool",
            "size": (64 << 20) - QUEUES, "free": (64 << 20) - QUEUES, "missing": 0, "leases": 0, "alignment": 4096,
            "method": "on_demand", "revocation": "advisory", "emulated": false}],
        "holds": {"Ok": {}},
    }))
    .unwrap()
}

/// Direct transfers are the faster ones.
fn recommendation() -> Recommendation {
    serde_json::from_value(json!({
        "operation": "write", "from": "cmb", "to": "vram", "providers": [DRIVE, GPU], "initiator": "rdma:mlx5_0",
        "kernel": "7.3.4+deb13-amd64", "date": "2026-11-24 18:00",
        "sizes": [{"bytes": 4096, "way": "direct", "ratio": 1.2}, {"bytes": 8192, "way": "direct", "ratio": 2.5}],
    }))
    .unwrap()
}

/// All is well.
pub(crate) fn healthy() -> Facts {
    let node = Node { path: "/dev/infiniband/uverbs0".to_owned(), exists: true, permitted: true };
    let port = Port {
        state: PortState::Active,
        ethernet: true,
        active_mtu: Some(Mtu::Bytes4096),
        max_mtu: Some(Mtu::Bytes4096),
    };
    let answers = Answers {
        dmabuf_refusal: None,
        on_demand_claimed: true,
        on_demand_measured: Ok(OnDemand::Sound),
        ports: vec![port],
    };
    let options = ["PCI_P2PDMA", "INFINIBAND_ON_DEMAND_PAGING", "DMA_SHARED_BUFFER", "VFIO_PCI_DMABUF"];
    Facts {
        kernel_release: Ok("7.3.4+deb13-amd64".to_owned()),
        kernel_options: Ok(options.map(str::to_owned).into()),
        topology: Ok(snapshot()),
        rdma: vec![RdmaDevice { name: "mlx5_0".parse().unwrap(), node: Ok(node), answers: Ok(answers) }],
        memlock: Memlock {
            own: Limit::Unlimited,
            exempt: false,
            unit: Some(UnitMemlock { unit: "x.service".to_owned(), limit: Ok(Limit::Unlimited) }),
        },
        peer_memory: PeerMemory::default(),
        driver_shares: [(at(DRIVE), ByteLen::new(QUEUES))].into(),
        vram: [(at(GPU), ByteLen::new(16 * GIB))].into(),
        relaxed_ordering: [(at(NIC), Ok(true))].into(),
        numa_nodes: Some(2),
        daemon: Ok(daemon()),
        recommendations: vec![Ok(recommendation())],
    }
}

pub(crate) fn at(address: &str) -> PciAddress {
    address.parse().unwrap()
}

/// A function of the machine's tree.
pub(crate) fn part<'a>(facts: &'a mut Facts, address: &str) -> &'a mut Function {
    tree(facts).functions.get_mut(&at(address)).unwrap()
}

/// The machine's tree.
pub(crate) fn tree(facts: &mut Facts) -> &mut Snapshot {
    facts.topology.as_mut().unwrap()
}

/// What the RDMA device answers.
pub(crate) fn answers(facts: &mut Facts) -> &mut Answers {
    facts.rdma[0].answers.as_mut().unwrap()
}
