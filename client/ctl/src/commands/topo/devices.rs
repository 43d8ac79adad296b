//! Devices by the names that people give them.

use peermem::proto::{Initiator, PciAddress, RdmaName};
use peermem_topology::Snapshot;

use crate::failure::Usage;

/// The function that has the memory: by address, or by the name of a device at it.
pub(crate) fn provider(snapshot: &Snapshot, text: &str) -> Result<PciAddress, Usage> {
    let address = text.strip_prefix("pci:").unwrap_or(text).parse().ok();
    address
        .or_else(|| named(snapshot, text))
        .filter(|address| snapshot.functions.contains_key(address))
        .ok_or_else(|| unknown(text))
}

/// The device that does the DMA: as `rdma:NAME` or `pci:ADDRESS`, or by its bare name or address.
pub(crate) fn initiator(snapshot: &Snapshot, text: &str) -> Result<Initiator, Usage> {
    let rdma = |name: &str| name.parse::<RdmaName>().ok().filter(|name| snapshot.rdma.contains_key(name));
    if let Some(name) = rdma(text.strip_prefix("rdma:").unwrap_or(text)) {
        return Ok(Initiator::Rdma(name));
    }
    provider(snapshot, text).map(Initiator::Pci)
}

/// How an initiator is called in a heading.
pub(super) fn label(snapshot: &Snapshot, initiator: &Initiator) -> String {
    match initiator {
        Initiator::Rdma(name) => name.to_string(),
        Initiator::Pci(address) | Initiator::Vfio(address) => {
            snapshot.names_at(*address).first().map_or_else(|| address.to_string(), ToString::to_string)
        }
        Initiator::Emulated => initiator.to_string(),
    }
}

fn named(snapshot: &Snapshot, name: &str) -> Option<PciAddress> {
    snapshot.functions.keys().copied().find(|&address| snapshot.names_at(address).contains(&name))
}

fn unknown(text: &str) -> Usage {
    Usage(format!(
        "no device is called {text:?}: give a PCI address or a name that `peermemctl topo --tree` shows"
    ))
}
