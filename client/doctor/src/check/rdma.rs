//! RDMA devices: their nodes, methods, packets, ordering.

use peermem::{advice, rdma::OnDemand, verbs::PortState};
use peermem_proto::{Initiator, Method, RdmaName};
use peermem_topology::Attachment;

use super::scope::Scope;
use crate::{
    Finding,
    facts::{Answers, Facts, Port, RdmaDevice},
};

pub(super) fn all(facts: &Facts, scope: Option<&Scope<'_>>) -> Vec<Finding> {
    if facts.rdma.is_empty() {
        let why = "no memory of this node can be reached over RDMA";
        let fix = "load the network card's driver, or try it over Ethernet: `rdma link add rxe0 type rxe netdev DEV`";
        return vec![Finding::warn("rdma", "node", "no RDMA device", why).fix(fix)];
    }
    let mut findings = Vec::new();
    for device in facts.rdma.iter().filter(|device| is_meant(&device.name, scope)) {
        findings.push(node(device));
        findings.extend(software(&device.name, scope));
        match &device.answers {
            Err(unseen) => findings.push(Finding::unknown("rdma", &device.name, unseen)),
            Ok(answers) => {
                findings.push(dmabuf(&device.name, answers));
                findings.push(on_demand(&device.name, answers));
                for (number, port) in (1..).zip(&answers.ports) {
                    findings.push(path_mtu(&device.name, number, port, scope));
                }
            }
        }
        findings.extend(relaxed_ordering(facts, &device.name, scope));
    }
    findings
}

fn is_meant(name: &RdmaName, scope: Option<&Scope<'_>>) -> bool {
    scope.is_none_or(|scope| scope.initiators.contains(&Initiator::Rdma(name.clone())))
}

fn node(device: &RdmaDevice) -> Finding {
    const CHECK: &str = "rdma-node";
    const WHY: &str = "verbs go through this device node";
    match &device.node {
        Err(unseen) => Finding::fail(CHECK, &device.name, unseen, WHY).fix("modprobe ib_uverbs"),
        Ok(node) if !node.exists => {
            Finding::fail(CHECK, &device.name, format!("there is no {}", node.path), WHY)
                .fix(format!("in a container: --device {}", node.path))
        }
        Ok(node) if !node.permitted => {
            Finding::fail(CHECK, &device.name, format!("no permission to read and write {}", node.path), WHY)
                .fix(format!("chmod 0666 {}: udev's rules of rdma-core do it", node.path))
        }
        Ok(node) => Finding::pass(CHECK, &device.name, format!("{} may be opened", node.path)),
    }
}

fn software(name: &RdmaName, scope: Option<&Scope<'_>>) -> Option<Finding> {
    let attachment = scope?.snapshot.rdma.get(name)?;
    (*attachment == Attachment::Software {}).then(|| {
        let why = "a CPU copies every byte: right for development, and no measure of hardware";
        Finding::warn("rdma-software", name, "a software device", why)
    })
}

fn dmabuf(name: &RdmaName, answers: &Answers) -> Finding {
    const CHECK: &str = "rdma-dmabuf";
    match &answers.dmabuf_refusal {
        None => Finding::pass(CHECK, name, "takes dma-bufs (the probe with fd -1 ended in EBADF)"),
        Some(refusal) => {
            let why = "GPU memory and vfio BARs can't become MRs on it";
            Finding::warn(CHECK, name, refusal, why).fix("use a device and driver that take dma-bufs")
        }
    }
}

fn on_demand(name: &RdmaName, answers: &Answers) -> Finding {
    const CHECK: &str = "rdma-on-demand";
    let why = "p2pmem (NVMe CMB) can't become an MR on it";
    if !answers.on_demand_claimed {
        return Finding::warn(CHECK, name, "no on-demand paging for RDMA reads and writes", why)
            .fix(format!("it takes {}", advice::needs(Method::OnDemand)));
    }
    match &answers.on_demand_measured {
        Err(unseen) => Finding::unknown(CHECK, name, format!("the self-test could not run: {unseen}")),
        Ok(OnDemand::Sound) => Finding::pass(CHECK, name, "every byte was right in the short self-test"),
        Ok(OnDemand::Unsupported) => Finding::warn(CHECK, name, "no on-demand paging", why),
        Ok(OnDemand::PageAlignedOnly { min_path_mtu }) => {
            let measured = format!(
                "moves wrong bytes unless page-aligned over path MTU {min_path_mtu}, and reports success"
            );
            let why = "this library refuses the other transfers; other programs would move wrong bytes";
            Finding::warn(CHECK, name, measured, why).fix("`peermemctl selftest` shows what is right")
        }
        Ok(OnDemand::Broken { finding }) => {
            Finding::fail(CHECK, name, format!("moves wrong bytes: {finding}"), why)
                .fix("use another device, or memory that can be pinned")
        }
    }
}

fn path_mtu(name: &RdmaName, number: u8, port: &Port, scope: Option<&Scope<'_>>) -> Finding {
    const CHECK: &str = "rdma-mtu";
    let about = format!("{name} port {number}");
    if port.state != PortState::Active {
        let why = "nothing can be sent";
        return Finding::fail(CHECK, about, format!("the port isn't active but {:?}", port.state), why)
            .fix(format!("`rdma link show {name}/{number}`, and bring its network interface up"));
    }
    let (Some(active), Some(max)) = (port.active_mtu, port.max_mtu) else {
        return Finding::unknown(CHECK, about, "the port doesn't say its path MTU");
    };
    if active >= max {
        return Finding::pass(CHECK, about, format!("path MTU {active}"));
    }
    let networks = scope.and_then(|scope| scope.snapshot.networks.get(name));
    let interface = networks.and_then(|network| network.netdevs.first());
    let interface = interface.map_or("DEV", |name| name.as_str());
    let finding = Finding::warn(
        CHECK,
        about,
        format!("path MTU {active} of {max}"),
        "more packets for the same bytes; on-demand regions of rdma_rxe need 4096",
    );
    let fix = if port.ethernet {
        format!("{}, at every host and switch on the way", advice::raise_mtu(interface))
    } else {
        "raise the partition's MTU in the subnet manager".to_owned()
    };
    finding.fix(fix)
}

fn relaxed_ordering(facts: &Facts, name: &RdmaName, scope: Option<&Scope<'_>>) -> Option<Finding> {
    const CHECK: &str = "rdma-relaxed-ordering";
    let address = scope?.snapshot.function_of(&Initiator::Rdma(name.clone()))?;
    Some(match facts.relaxed_ordering.get(&address)? {
        Err(unseen) => Finding::unknown(CHECK, name, unseen),
        Ok(true) => Finding::pass(CHECK, name, "PCIe Relaxed Ordering is enabled"),
        Ok(false) => {
            let why = "without it writes wait for one another: less bandwidth on some processors. The kernel itself switches \
                       it off below root ports that do it wrongly";
            Finding::warn(CHECK, name, "PCIe Relaxed Ordering is disabled", why).fix(format!(
                "setpci -s {address} CAP_EXP+8.w=0x10:0x10, if dmesg doesn't name the root port"
            ))
        }
    })
}
