//! The checks: each looks at facts and answers with findings.

mod acs;
mod bar;
mod daemon;
mod host_bridge;
mod iommu;
mod kernel;
mod link;
mod memlock;
mod numa;
mod p2pmem;
mod peer_memory;
mod rdma;
mod scope;

use peermem_proto::{Initiator, PciAddress};
use peermem_topology::{PathReport, Snapshot};
use serde::Serialize;
use thiserror::Error;

use self::scope::Scope;
use crate::{Finding, facts::Facts};

/// A name that no device of this node has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name} is no {expected} on this node; `peermemctl topo` lists the devices")]
pub struct UnknownDevice {
    /// The name.
    pub name: String,
    /// What it should be.
    pub expected: &'static str,
}

/// One provider and one initiator in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The way between them.
    pub path: PathReport,
    /// What was found of the two and of the node.
    pub findings: Vec<Finding>,
}

/// Everything about the node.
pub fn all(facts: &Facts) -> Vec<Finding> {
    let scope = facts.topology.as_ref().map(Scope::whole);
    match scope {
        Ok(scope) => findings(facts, Some(&scope)),
        Err(_) => findings(facts, None),
    }
}

/// Everything about one pair.
///
/// # Errors
/// [`UnknownDevice`], also when the PCI tree could not be read.
pub fn pair(facts: &Facts, provider: &str, initiator: &str) -> Result<Pair, UnknownDevice> {
    let empty = Snapshot::default();
    let snapshot = facts.topology.as_ref().unwrap_or(&empty);
    let provider = provider_named(snapshot, provider).ok_or_else(|| UnknownDevice {
        name: provider.to_owned(),
        expected: "PCI function or device at one",
    })?;
    let initiator = initiator_named(snapshot, initiator).ok_or_else(|| UnknownDevice {
        name: initiator.to_owned(),
        expected: "RDMA device or PCI function",
    })?;
    let scope = Scope::pair(snapshot, provider, &initiator);
    Ok(Pair { path: snapshot.explain(provider, &initiator), findings: findings(facts, Some(&scope)) })
}

/// `0000:01:00.0`, `pci:0000:01:00.0`, or what the kernel calls a device there: `nvme0`, `card0`.
fn provider_named(snapshot: &Snapshot, name: &str) -> Option<PciAddress> {
    let address = name.strip_prefix("pci:").unwrap_or(name).parse();
    match address {
        Ok(address) => snapshot.functions.contains_key(&address).then_some(address),
        Err(_) => snapshot.functions.keys().copied().find(|&at| snapshot.names_at(at).contains(&name)),
    }
}

/// As for providers, and RDMA devices by name: `rdma:mlx5_0`, `mlx5_0`.
fn initiator_named(snapshot: &Snapshot, name: &str) -> Option<Initiator> {
    let rdma = name.strip_prefix("rdma:").unwrap_or(name).parse().ok();
    match rdma.filter(|name| snapshot.rdma.contains_key(name)) {
        Some(name) => Some(Initiator::Rdma(name)),
        None => provider_named(snapshot, name).map(Initiator::Pci),
    }
}

fn findings(facts: &Facts, scope: Option<&Scope<'_>>) -> Vec<Finding> {
    let mut findings = kernel::features(facts);
    findings.extend(rdma::all(facts, scope));
    match (scope, &facts.topology) {
        (Some(scope), _) => {
            findings.extend(p2pmem::all(facts, scope));
            findings.extend(host_bridge::refused(scope));
            findings.extend(acs::redirect(scope));
            findings.extend(iommu::mode(scope));
            findings.extend(numa::crossing(scope));
            findings.extend(link::slow(scope));
            findings.extend(bar::small(facts, scope));
        }
        (None, Err(unseen)) => findings.push(Finding::unknown("topology", "node", unseen)),
        (None, Ok(_)) => {}
    }
    findings.push(peer_memory::registered(facts));
    findings.extend(memlock::limits(facts));
    findings.push(daemon::reachable(facts));
    findings
}
