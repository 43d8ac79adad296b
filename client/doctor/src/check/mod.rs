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
mod recommendation;
mod scope;
mod vfio;

use peermem_proto::{Initiator, PciAddress};
use peermem_topology::{PathReport, Snapshot};
use serde::Serialize;

use self::scope::Scope;
use crate::{Finding, facts::Facts};

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

/// Everything about one pair. When the PCI tree could not be read, neither device is known.
pub fn pair(facts: &Facts, provider: PciAddress, initiator: &Initiator) -> Pair {
    let empty = Snapshot::default();
    let snapshot = facts.topology.as_ref().unwrap_or(&empty);
    let scope = Scope::pair(snapshot, provider, initiator);
    Pair { path: snapshot.explain(provider, initiator), findings: findings(facts, Some(&scope)) }
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
            findings.extend(vfio::all(scope));
            findings.extend(numa::crossing(facts, scope));
            findings.extend(link::slow(scope));
            findings.extend(bar::small(facts, scope));
        }
        (None, Err(unseen)) => findings.push(Finding::unknown("topology", "node", unseen)),
        (None, Ok(_)) => {}
    }
    findings.push(peer_memory::registered(facts));
    findings.extend(memlock::limits(facts));
    findings.push(daemon::reachable(facts));
    findings.extend(recommendation::measured(facts, scope));
    findings
}
