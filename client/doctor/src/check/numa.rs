//! Ways that lead from one socket to another.

use super::scope::{Scope, some};
use crate::{Finding, facts::Facts};

const CHECK: &str = "numa";

pub(super) fn crossing(facts: &Facts, scope: &Scope<'_>) -> Option<Finding> {
    let known: Vec<_> = scope.pci_pairs().filter_map(|path| Some((path, path.numa?))).collect();
    let all = scope.pci_pairs().count();
    if all == 0 {
        return None;
    }
    if facts.numa_nodes == Some(1) {
        return Some(Finding::pass(CHECK, "node", "the machine is one NUMA node"));
    }
    if known.is_empty() {
        return Some(Finding::unknown(
            CHECK,
            "node",
            "the firmware doesn't say which NUMA node the devices are at",
        ));
    }
    let crossing: Vec<_> =
        known.iter().filter(|(_, nodes)| nodes.differ()).map(|(path, _)| scope.between(path)).collect();
    if crossing.is_empty() {
        return Some(Finding::pass(
            CHECK,
            "node",
            format!("{} of {all} pairs known, each on one node", known.len()),
        ));
    }
    let measured =
        format!("{} of {all} pairs cross nodes (memory<-device): {}", crossing.len(), some(crossing));
    let why = "traffic between sockets is slower, and some processors pass it badly or not at all";
    Some(
        Finding::warn(CHECK, "node", measured, why)
            .fix("choose an initiator on the provider's node: `peermemctl topo`"),
    )
}
