//! One pair, explained in full.

use anyhow::Result;
use peermem_topology::{NumaNodes, PathReport, Snapshot, Turn, Verdict};

use super::{devices, words};
use crate::output::Output;

pub(crate) fn print(snapshot: &Snapshot, report: &PathReport, output: &Output) -> Result<()> {
    let provider = snapshot.functions.get(&report.provider);
    let kind = provider.map_or("", |function| words::kind(snapshot, report.provider, function));
    let mut fields = vec![
        ("provider", format!("{} {}", report.provider, name_or(snapshot, report, kind))),
        ("initiator", report.initiator.to_string()),
        ("verdict", verdict(report)),
        ("reason", report.reason.clone()),
    ];
    if let Some(distance) = report.distance {
        fields.push(("distance", format!("{distance} hops")));
    }
    if report.turn.is_some() {
        fields.push(("way", way(report)));
        fields.push(("bottleneck", bottleneck(report)));
    }
    fields.push(("NUMA", numa(report.numa)));
    output.fields(&fields)
}

fn name_or(snapshot: &Snapshot, report: &PathReport, kind: &str) -> String {
    match snapshot.names_at(report.provider)[..] {
        [] => kind.to_owned(),
        ref names => format!("{} ({kind})", names.join(" ")),
    }
}

/// The verdict in words.
pub(super) fn verdict(report: &PathReport) -> String {
    match &report.verdict {
        Verdict::Accepted(route) => route.to_string(),
        Verdict::Refused(_) => "refused".to_owned(),
    }
}

/// The functions on the way, in order.
fn way(report: &PathReport) -> String {
    let turn = match report.turn {
        None => String::new(),
        Some(Turn::Function(bridge)) => format!("[{bridge}]"),
        Some(Turn::HostBridge(root)) => format!("[host bridge {root}]"),
        Some(Turn::HostBridges(one, other)) => format!("[host bridge {one}] → [host bridge {other}]"),
        Some(Turn::Cpu(root)) => format!("[host bridge {root}] → [CPU]"),
    };
    let (up, down) =
        (report.up.iter().map(|f| format!("{f} ↑ ")), report.down.iter().map(|f| format!(" ↓ {f}")));
    up.chain([turn]).chain(down).collect()
}

/// The slowest link on the way.
pub(super) fn bottleneck(report: &PathReport) -> String {
    let Some(link) = &report.bottleneck else { return "no link's speed is known".to_owned() };
    let place = format!("{} – {}", link.above, link.below);
    let now = format!("{} ({} each way)", link.current, words::bandwidth(link.current));
    if link.current == link.max {
        return format!("{place} at {now}");
    }
    format!(
        "{place} at {now}, below its {} ({}); idle devices may slow their links down, so look again under load",
        link.max,
        words::bandwidth(link.max)
    )
}

fn numa(nodes: Option<NumaNodes>) -> String {
    match nodes {
        None => "not known".to_owned(),
        Some(nodes) if nodes.differ() => {
            format!(
                "from node {} to node {}: across the sockets' interconnect",
                nodes.provider, nodes.initiator
            )
        }
        Some(nodes) => format!("both on node {}", nodes.provider),
    }
}

/// Who it is about, in one line.
pub(super) fn heading(snapshot: &Snapshot, report: &PathReport) -> String {
    let names = snapshot.names_at(report.provider).join(" ");
    let provider =
        if names.is_empty() { report.provider.to_string() } else { format!("{names} ({})", report.provider) };
    format!("{provider} → {}: {}", devices::label(snapshot, &report.initiator), verdict(report))
}
