//! What a function is and has, in words.

use peermem::proto::PciAddress;
use peermem_topology::{Acs, Details, Function, LinkMode, MemoryKind, PathLink, Snapshot};

/// What kind of function it is.
pub(super) fn kind(snapshot: &Snapshot, address: PciAddress, function: &Function) -> &'static str {
    if function.class.is_bridge() {
        return bridge(snapshot, address, function);
    }
    match (function.class.get() >> 16, function.class.get() >> 8 & 0xff) {
        (0x01, 0x08) => "NVMe",
        (0x01, _) => "storage",
        (0x02, 0x07) => "InfiniBand",
        (0x02, _) => "network",
        (0x03, 0x02) => "3D controller",
        (0x03, _) => "display",
        (0x06, 0x00) => "host bridge",
        (0x06, _) => "bridge",
        (0x12, _) => "accelerator",
        _ => "function",
    }
}

/// Switches have an upstream port and, below it, downstream ports; so PCI Express bridges take turns on the way down.
fn bridge(snapshot: &Snapshot, address: PciAddress, function: &Function) -> &'static str {
    let below = || snapshot.functions.values().filter(|below| below.upstream.last() == Some(&address));
    match function.upstream.len() {
        _ if !function.express => "PCI bridge",
        0 => "root port",
        depth if depth % 2 == 0 => "downstream port",
        _ if below().any(|below| !below.express) => "PCIe-to-PCI bridge",
        _ => "upstream port",
    }
}

/// How its memory can be had, and how much there is.
pub(super) fn memory(kind: MemoryKind, details: &Details) -> String {
    let bar = details.bars.iter().filter(|bar| bar.prefetchable).max_by_key(|bar| bar.size);
    let size = match (kind, details.p2pmem, bar) {
        (MemoryKind::P2pmem, Some(pool), _) => format!(" {}", pool.size),
        (MemoryKind::Gpu | MemoryKind::Vfio | MemoryKind::Bar, _, Some(bar)) => {
            let largest = bar.resizable_to.iter().max().filter(|largest| **largest > bar.size);
            let more = largest.map_or_else(String::new, |largest| format!(" (resizable to {largest})"));
            format!(" BAR{} {}{more}", bar.index, bar.size)
        }
        _ => String::new(),
    };
    let name = match kind {
        MemoryKind::P2pmem => "p2pmem",
        MemoryKind::Cmb => "CMB",
        MemoryKind::Gpu => "gpu",
        MemoryKind::Vfio => "vfio",
        MemoryKind::Bar => "memory",
    };
    format!("{name}{size}")
}

/// How a link runs, and the best that it could.
pub(super) fn link(link: &PathLink) -> String {
    let (now, max) = (link.current, link.max);
    match (now.speed == max.speed, now.width == max.width) {
        (true, true) => now.to_string(),
        (true, false) => format!("{now} of x{}", max.width),
        (false, _) => format!("{now} of {max}"),
    }
}

/// What a link in this mode carries, in units of 10^6 or 10^9 bytes a second.
pub(super) fn bandwidth(mode: LinkMode) -> String {
    let megabytes = mode.bandwidth() / 1_000_000;
    if megabytes < 1000 {
        return format!("{megabytes} MB/s");
    }
    format!("{}.{} GB/s", megabytes / 1000, megabytes % 1000 / 100)
}

/// What is worth a remark at a function, most important first.
pub(super) fn remarks(snapshot: &Snapshot, address: PciAddress, function: &Function) -> Vec<String> {
    let details = &function.details;
    let providers = snapshot.providers();
    let kinds = providers.get(&address).into_iter().flatten();
    let mut remarks: Vec<_> = kinds.map(|&kind| memory(kind, details)).collect();
    remarks.extend(snapshot.link_above(address).as_ref().map(link));
    if function.class.is_bridge() {
        match function.acs {
            acs if acs.redirects() => remarks.push("ACS redirects".to_owned()),
            Acs::Unreadable => remarks.push("ACS not readable".to_owned()),
            _ => {}
        }
    }
    let devices =
        snapshot.nvme.values().filter(|nvme| nvme.address == address).flat_map(|nvme| &nvme.namespaces);
    remarks.extend(devices.map(ToString::to_string));
    for (name, network) in &snapshot.networks {
        if snapshot.function_of(&peermem::proto::Initiator::Rdma(name.clone())) == Some(address) {
            remarks.extend(network.netdevs.iter().map(ToString::to_string));
        }
    }
    remarks
}
