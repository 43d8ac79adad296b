//! Peer-memory clients: what is registered, whatever is loaded.

use crate::{
    Finding,
    facts::{Facts, PeerMemory},
};

const CHECK: &str = "peer-memory";

/// Modules that exist to register a client.
const BRIDGES: [&str; 2] = ["nvidia_peermem", "nv_peer_mem"];

pub(super) fn registered(facts: &Facts) -> Finding {
    let PeerMemory { modules, clients, interface } = &facts.peer_memory;
    let bridge = BRIDGES.iter().find(|name| modules.contains(**name));
    let driver = ["nvidia", "amdgpu"].into_iter().find(|name| modules.contains(*name));
    let dmabuf = facts
        .rdma
        .iter()
        .any(|device| device.answers.as_ref().is_ok_and(|answers| answers.dmabuf_refusal.is_none()));
    let missing = match interface {
        Some(true) => "the RDMA core has the interface",
        Some(false) => "the RDMA core lacks the interface (ib_register_peer_memory_client)",
        None => "whether the RDMA core has the interface can't be seen in /proc/kallsyms",
    };
    if !clients.is_empty() {
        let names = clients.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Finding::pass(CHECK, "node", format!("registered: {names}"));
    }
    match (bridge, driver) {
        (Some(bridge), _) => {
            let measured = format!("{bridge} is loaded, and no client is registered; {missing}");
            let why = "registering GPU memory by its address fails with EFAULT; dma-bufs don't need it";
            let finding = if dmabuf {
                Finding::warn(CHECK, "node", measured, why)
            } else {
                Finding::fail(CHECK, "node", measured, why)
            };
            finding.fix(format!(
                "use dma-bufs, or build {bridge} against the RDMA drivers in use and load it again"
            ))
        }
        (None, Some(driver)) if dmabuf => Finding::pass(
            CHECK,
            "node",
            format!("no client is registered; {driver}'s memory goes by dma-buf"),
        ),
        (None, Some(driver)) => {
            let measured = format!(
                "{driver} is loaded, no client is registered, no RDMA device takes dma-bufs; {missing}"
            );
            let why = "no RDMA device of this node can reach GPU memory";
            let fix = if driver == "nvidia" {
                "modprobe nvidia_peermem"
            } else {
                "use an RDMA device and driver that take dma-bufs"
            };
            Finding::warn(CHECK, "node", measured, why).fix(fix)
        }
        (None, None) => Finding::pass(CHECK, "node", "not needed: neither nvidia nor amdgpu is loaded"),
    }
}
