//! Access Control Services that send peer-to-peer traffic up to the host bridge.

use std::collections::{BTreeMap, BTreeSet};

use peermem_proto::{PciAddress, Route};
use peermem_topology::{Acs, NoRoute, Verdict};

use super::scope::{Scope, some};
use crate::Finding;

const CHECK: &str = "acs-redirect";

pub(super) fn redirect(scope: &Scope<'_>) -> Vec<Finding> {
    let mut by_ports: BTreeMap<(Vec<PciAddress>, bool), Vec<String>> = BTreeMap::new();
    for path in scope.pci_pairs() {
        let (ports, refused) = match &path.verdict {
            Verdict::Refused(NoRoute::Redirected { ports, .. }) => (ports, true),
            Verdict::Accepted(Route::HostBridge { redirected_by, .. }) if !redirected_by.is_empty() => {
                (redirected_by, false)
            }
            _ => continue,
        };
        by_ports.entry((ports.clone(), refused)).or_default().push(scope.between(path));
    }
    let mut findings: Vec<_> = by_ports
        .into_iter()
        .map(|((ports, refused), pairs)| redirected(scope, &ports, refused, pairs))
        .collect();
    let unread: BTreeSet<_> = scope.pci_pairs().flat_map(|path| &path.acs_unreadable).collect();
    if !unread.is_empty() {
        let ports = some(unread.iter().map(ToString::to_string));
        let measured = format!("the ACS registers of {ports} can't be read: run as root");
        findings.push(Finding::unknown(CHECK, "node", measured));
    }
    let all = scope.pci_pairs().count();
    if findings.is_empty() && all > 0 {
        findings.push(Finding::pass(
            CHECK,
            "node",
            format!("no port redirects, between {all} pairs of devices"),
        ));
    }
    findings
}

fn redirected(scope: &Scope<'_>, ports: &[PciAddress], refused: bool, pairs: Vec<String>) -> Finding {
    let register = |port: &PciAddress| match scope.snapshot.functions.get(port).map(|function| function.acs) {
        Some(Acs::Control(control)) => format!("{port} ({control})"),
        _ => port.to_string(),
    };
    let about = ports.iter().map(ToString::to_string).collect::<Vec<_>>();
    let measured = format!(
        "ACS control of {} redirects {} pairs (memory<-device): {}",
        ports.iter().map(register).collect::<Vec<_>>().join(", "),
        pairs.len(),
        some(pairs)
    );
    let fix =
        format!("boot with pci=disable_acs_redir={}, which gives up the isolation below", about.join(";"));
    let about = about.join(" ");
    let finding = if refused {
        let why = "the traffic would go to the host bridge, which isn't known to pass it: the kernel refuses (EINVAL)";
        Finding::fail(CHECK, about, measured, why)
    } else {
        Finding::warn(
            CHECK,
            about,
            measured,
            "the traffic goes up to the host bridge: often half the bandwidth",
        )
    };
    finding.fix(fix)
}
