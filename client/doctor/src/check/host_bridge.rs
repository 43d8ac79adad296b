//! Pairs that the kernel refuses because their way leads through a host bridge that it doesn't know.

use std::collections::BTreeMap;

use peermem_topology::{NoRoute, Verdict};

use super::scope::{Scope, some};
use crate::Finding;

const CHECK: &str = "host-bridge";

pub(super) fn refused(scope: &Scope<'_>) -> Vec<Finding> {
    let mut by_refusal: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in scope.pci_pairs() {
        if let Verdict::Refused(NoRoute::HostBridge(refusal)) = &path.verdict {
            by_refusal.entry(refusal.to_string()).or_default().push(scope.between(path));
        }
    }
    let all = scope.pci_pairs().count();
    if by_refusal.is_empty() {
        let passed = format!("none of {all} pairs of devices is refused for its host bridge");
        return if all > 0 { vec![Finding::pass(CHECK, "node", passed)] } else { Vec::new() };
    }
    let finding = |(refusal, pairs): (String, Vec<String>)| {
        let measured = format!("{} of {all} pairs refused (memory<-device): {}", pairs.len(), some(pairs));
        let why =
            format!("they share no upstream bridge, and {refusal}: the kernel refuses such DMA (EINVAL)");
        Finding::fail(CHECK, "node", measured, why).fix("put both devices below one PCIe switch")
    };
    by_refusal.into_iter().map(finding).collect()
}
