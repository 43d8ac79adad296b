//! PCI Express links that run below what both their ends can do.

use std::collections::BTreeSet;

use peermem_topology::PathLink;

use super::scope::Scope;
use crate::Finding;

const CHECK: &str = "link";

pub(super) fn slow(scope: &Scope<'_>) -> Vec<Finding> {
    let mut lower_ends = BTreeSet::new();
    for address in scope.functions() {
        let upstream = scope.snapshot.functions.get(&address).map(|function| &function.upstream);
        lower_ends.extend(upstream.into_iter().flatten().copied().chain([address]));
    }
    let links: Vec<PathLink> =
        lower_ends.into_iter().filter_map(|below| scope.snapshot.link_above(below)).collect();
    let mut findings: Vec<_> = links.iter().filter_map(|link| below_its_best(scope, link)).collect();
    if findings.is_empty() && !links.is_empty() {
        findings.push(Finding::pass(CHECK, "node", format!("{} links run at their best", links.len())));
    }
    findings
}

fn below_its_best(scope: &Scope<'_>, link: &PathLink) -> Option<Finding> {
    let best = link.max.bandwidth();
    if link.bandwidth >= best {
        return None;
    }
    let measured = format!("its link runs at {} and could at {}", link.current, link.max);
    let why = format!(
        "{}% of the bandwidth; GPUs also slow down while idle",
        (link.bandwidth * 100 + best / 2) / best
    );
    let fix =
        format!("reseat the device or try another slot; `lspci -vvs {}` shows both ends' LnkSta", link.below);
    Some(Finding::warn(CHECK, scope.name(link.below), measured, why).fix(fix))
}
