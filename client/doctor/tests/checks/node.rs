//! Faults of kernel, RDMA devices, limits, peer-memory clients and daemon.

use peermem::{
    rdma::OnDemand,
    verbs::{Mtu, PortState},
};
use peermem_doctor::{
    Verdict::{Fail, Pass, Unknown, Warn},
    check,
    facts::{Limit, PeerMemory, Unseen},
    recommendation::Way,
};
use peermem_proto::ByteLen;
use peermem_topology::Attachment;

use crate::{
    fires,
    machine::{DRIVE, GPU, NIC, answers, at, healthy, tree},
};

#[test]
fn an_old_kernel_is_told_which_one_brings_it() {
    fires("kernel-vfio-dmabuf", Warn, &["6.12.43", "run Linux 6.19 or newer"], |facts| {
        facts.kernel_release = Ok("6.12.43+deb13-amd64".to_owned());
    });
    for (check, option) in [
        ("kernel-p2pdma", "PCI_P2PDMA"),
        ("kernel-on-demand", "INFINIBAND_ON_DEMAND_PAGING"),
        ("kernel-dmabuf", "DMA_SHARED_BUFFER"),
        ("kernel-vfio-dmabuf", "VFIO_PCI_DMABUF"),
    ] {
        fires(check, Warn, &[&format!("CONFIG_{option}=y")], |facts| {
            facts.kernel_options.as_mut().unwrap().remove(option);
        });
    }
    fires("kernel-p2pdma", Unknown, &["config.gz"], |facts| {
        facts.kernel_options = Err(Unseen("there is no /proc/config.gz".to_owned()));
    });
}

#[test]
fn rdma_devices_and_their_nodes() {
    fires("rdma", Warn, &["rdma link add"], |facts| facts.rdma.clear());
    fires("rdma", Unknown, &["libibverbs"], |facts| {
        facts.rdma[0].answers = Err(Unseen("no libibverbs".to_owned()));
    });
    fires("rdma-node", Fail, &["modprobe ib_uverbs"], |facts| {
        facts.rdma[0].node = Err(Unseen("mlx5_0 has no device node".to_owned()));
    });
    fires("rdma-node", Fail, &["uverbs0", "--device"], |facts| {
        facts.rdma[0].node.as_mut().unwrap().exists = false;
    });
    fires("rdma-node", Fail, &["no permission", "chmod 0666"], |facts| {
        facts.rdma[0].node.as_mut().unwrap().permitted = false;
    });
    fires("rdma-software", Warn, &["CPU copies"], |facts| {
        tree(facts).rdma.insert("mlx5_0".parse().unwrap(), Attachment::Software {});
    });
}

#[test]
fn methods_that_a_device_lacks_or_does_wrongly() {
    fires("rdma-dmabuf", Warn, &["EOPNOTSUPP"], |facts| {
        answers(facts).dmabuf_refusal = Some("EOPNOTSUPP (95)".to_owned());
    });
    fires("rdma-on-demand", Warn, &["6.15"], |facts| answers(facts).on_demand_claimed = false);
    fires("rdma-on-demand", Warn, &["page-aligned", "4096", "selftest"], |facts| {
        let min_path_mtu = Mtu::Bytes4096;
        answers(facts).on_demand_measured = Ok(OnDemand::PageAlignedOnly { min_path_mtu });
    });
    fires("rdma-on-demand", Fail, &["9 bytes wrong"], |facts| {
        answers(facts).on_demand_measured = Ok(OnDemand::Broken { finding: "9 bytes wrong".to_owned() });
    });
    fires("rdma-on-demand", Unknown, &["could not run"], |facts| {
        answers(facts).on_demand_measured = Err(Unseen("port down".to_owned()));
    });
}

#[test]
fn packets_and_ordering() {
    fires("rdma-mtu", Warn, &["1024 of 4096", "ip link set enp4s0 mtu 9000"], |facts| {
        answers(facts).ports[0].active_mtu = Some(Mtu::Bytes1024);
    });
    fires("rdma-mtu", Warn, &["subnet manager"], |facts| {
        let port = &mut answers(facts).ports[0];
        (port.active_mtu, port.ethernet) = (Some(Mtu::Bytes2048), false);
    });
    fires("rdma-mtu", Fail, &["Down", "rdma link show mlx5_0/1"], |facts| {
        answers(facts).ports[0].state = PortState::Down;
    });
    fires("rdma-relaxed-ordering", Warn, &["setpci -s 0000:04:00.0"], |facts| {
        facts.relaxed_ordering.insert(at(NIC), Ok(false));
    });
    fires("rdma-relaxed-ordering", Unknown, &["root"], |facts| {
        facts.relaxed_ordering.insert(at(NIC), Err(Unseen("run as root".to_owned())));
    });
}

#[test]
fn locked_memory() {
    let eight = Limit::Bytes(ByteLen::new(8 << 20));
    fires("memlock", Warn, &["8MiB", "ulimit -l"], |facts| facts.memlock.own = eight);
    fires("memlock", Pass, &["CAP_IPC_LOCK"], |facts| {
        facts.memlock.own = eight;
        facts.memlock.exempt = true;
    });
    fires("memlock-unit", Warn, &["8MiB", "systemctl edit x.service"], |facts| {
        facts.memlock.unit.as_mut().unwrap().limit = Ok(eight);
    });
    fires("memlock-unit", Unknown, &["not-found"], |facts| {
        facts.memlock.unit.as_mut().unwrap().limit = Err(Unseen("not-found".to_owned()));
    });
}

#[test]
fn loaded_is_not_registered() {
    let with = |modules: &[&str], clients: &[&str], interface| PeerMemory {
        modules: modules.iter().map(|name| (*name).to_owned()).collect(),
        clients: clients.iter().map(|name| (*name).to_owned()).collect(),
        interface: Some(interface),
    };
    let no_dmabuf = |facts: &mut peermem_doctor::facts::Facts| {
        answers(facts).dmabuf_refusal = Some("EOPNOTSUPP".to_owned());
    };
    let loaded = ["nvidia", "nvidia_peermem"];
    fires("peer-memory", Pass, &["nv_mem"], |facts| facts.peer_memory = with(&loaded, &["nv_mem"], true));
    fires("peer-memory", Warn, &["nvidia_peermem is loaded", "dma-bufs"], |facts| {
        facts.peer_memory = with(&loaded, &[], true);
    });
    fires("peer-memory", Fail, &["lacks the interface", "load it again"], |facts| {
        no_dmabuf(facts);
        facts.peer_memory = with(&loaded, &[], false);
    });
    fires("peer-memory", Pass, &["amdgpu", "dma-buf"], |facts| {
        facts.peer_memory = with(&["amdgpu"], &[], false);
    });
    fires("peer-memory", Warn, &["modprobe nvidia_peermem"], |facts| {
        no_dmabuf(facts);
        facts.peer_memory = with(&["nvidia"], &[], true);
    });
}

#[test]
fn the_daemon() {
    fires("daemon", Warn, &["nobody listens", "leased"], |facts| {
        facts.daemon = Err(Unseen("nobody listens at /run/peermemd/peermemd.sock".to_owned()));
    });
    fires("daemon", Warn, &["9.9.9", "update"], |facts| {
        facts.daemon.as_mut().unwrap().status.version = "9.9.9".to_owned();
    });
    fires("daemon", Warn, &["stopping"], |facts| facts.daemon.as_mut().unwrap().status.draining = true);
}

#[test]
fn a_way_through_host_memory_that_is_faster_and_measurements_of_another_kernel() {
    let words = [
        "cmb->vram",
        "write by rdma:mlx5_0",
        "direct is faster at 8KiB (2.50 times)",
        "2026-11-24",
        "--save",
    ];
    fires(
        "bench",
        Warn,
        &[&words[..], &["bounced is faster at 4KiB (1.20 times)", "host memory"]].concat(),
        |facts| {
            facts.recommendations[0].as_mut().unwrap().sizes[0].way = Way::Bounced;
        },
    );
    fires("bench", Unknown, &["isn't known to be this kernel", "--recommend --save"], |facts| {
        facts.recommendations[0].as_mut().unwrap().kernel = "6.12.43".to_owned();
    });
    fires("bench", Unknown, &["is no recommendation"], |facts| {
        facts.recommendations[0] = Err(Unseen("x.json is no recommendation".to_owned()));
    });
}

#[test]
fn a_pair_is_told_what_was_measured_of_it_only() {
    let facts = healthy();
    let quoted = |provider, initiator: &str| {
        let findings = check::pair(&facts, at(provider), &initiator.parse().unwrap()).findings;
        findings.iter().any(|finding| finding.check == "bench")
    };
    assert!(quoted(DRIVE, "rdma:mlx5_0") && quoted(GPU, "rdma:mlx5_0"));
    assert!(!quoted(DRIVE, "rdma:mlx5_1") && !quoted(NIC, "rdma:mlx5_0"));
}
