//! Every provider against every initiator.

use std::collections::BTreeSet;

use peermem::proto::{Initiator, PciAddress, Route};
use peermem_topology::{MemoryKind, NoRoute, NumaNodes, PathReport, Snapshot, Verdict};
use serde::Serialize;

use super::{devices, words};

/// Raised when a program that reads the JSON must change.
const SCHEMA: u32 = 1;

const LEGEND: [(&str, &str); 10] = [
    ("BUS", "inside one PCIe hierarchy, that many hops apart (0: the device itself)"),
    ("BUS?", "the same, unless a port in between redirects whose ACS can't be read"),
    ("HB", "through the host bridge"),
    ("HB acs", "through the host bridge, because ACS redirects: a shorter way exists"),
    ("HB numa", "through host bridges of two NUMA nodes"),
    ("CPU", "the initiator is software: a CPU copies"),
    ("X hb", "refused: the kernel doesn't know the host bridge to pass it"),
    ("X acs", "refused: ACS redirects to a host bridge that isn't known to pass it"),
    ("X bus", "refused: the initiator isn't on PCI"),
    ("--", "one of the two is gone"),
];

/// The matrix, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Matrix<'a> {
    schema: u32,
    snapshot: &'a Snapshot,
    providers: Vec<Provider>,
    initiators: Vec<Initiator>,
    /// One report a pair: all of the first provider's, then all of the next one's.
    pairs: Vec<PathReport>,
}

#[derive(Debug, Serialize)]
struct Provider {
    address: PciAddress,
    memory: Vec<MemoryKind>,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(snapshot: &'a Snapshot) -> Self {
        let providers: Vec<_> =
            snapshot.providers().into_iter().map(|(address, memory)| Provider { address, memory }).collect();
        let initiators = snapshot.initiators();
        let pairs = providers
            .iter()
            .flat_map(|provider| {
                initiators.iter().map(|initiator| snapshot.explain(provider.address, initiator))
            })
            .collect();
        Self { schema: SCHEMA, snapshot, providers, initiators, pairs }
    }

    /// The matrix for people; `live` when it is about this machine.
    pub(super) fn text(&self, live: bool) -> String {
        let place = if live { "this machine" } else { "the recorded machine" };
        if self.providers.is_empty() {
            return format!(
                "{place} has no function that gives memory: no p2pmem, GPU, large BAR or vfio device"
            );
        }
        if self.initiators.is_empty() {
            return format!("{place} has no device that does DMA to others' memory: no RDMA, NVMe or GPU");
        }
        let cells: Vec<_> = self.pairs.iter().map(cell).collect();
        let mut header = vec!["provider".to_owned(), "memory".to_owned()];
        header.extend(self.initiators.iter().map(|initiator| devices::label(self.snapshot, initiator)));
        let mut rows = vec![header];
        for (provider, cells) in self.providers.iter().zip(cells.chunks(self.initiators.len())) {
            rows.push([self.head(provider), cells.to_vec()].concat());
        }
        [grid(&rows), String::new(), legend(&cells), self.notes(live)].join("\n").trim_end().to_owned()
    }

    fn head(&self, provider: &Provider) -> Vec<String> {
        let names = self.snapshot.names_at(provider.address);
        let name = names.first().map_or_else(String::new, |name| format!(" {name}"));
        let details = self.snapshot.functions.get(&provider.address).map(|function| &function.details);
        let memory = provider.memory.iter().zip(details.into_iter().cycle());
        let memory: Vec<_> = memory.map(|(&kind, details)| words::memory(kind, details)).collect();
        vec![format!("{}{name}", provider.address), memory.join(", ")]
    }

    /// What couldn't be seen.
    fn notes(&self, live: bool) -> String {
        let unread: BTreeSet<_> = self.pairs.iter().flat_map(|pair| &pair.acs_unreadable).collect();
        match (unread.len(), live) {
            (0, _) => String::new(),
            (count, true) => format!(
                "\nACS of {count} functions not readable: run as root, or ask the daemon by a mapping, whose answer has the \
                 route by the live registers"
            ),
            (count, false) => format!("\nACS of {count} functions was not readable when this was recorded"),
        }
    }
}

/// A verdict in a few letters.
pub(super) fn cell(report: &PathReport) -> String {
    let hops = report.distance.unwrap_or_default();
    match &report.verdict {
        Verdict::Accepted(Route::BusAddress { acs_checked: true }) => return format!("BUS {hops}"),
        Verdict::Accepted(Route::BusAddress { acs_checked: false }) => return format!("BUS? {hops}"),
        Verdict::Accepted(Route::HostBridge { redirected_by, .. }) if !redirected_by.is_empty() => "HB acs",
        Verdict::Accepted(Route::HostBridge { .. }) if report.numa.is_some_and(NumaNodes::differ) => {
            "HB numa"
        }
        Verdict::Accepted(Route::HostBridge { .. }) => "HB",
        Verdict::Accepted(Route::Iommu {}) => "IOMMU",
        Verdict::Accepted(Route::Software {}) => "CPU",
        Verdict::Refused(NoRoute::HostBridge(_)) => "X hb",
        Verdict::Refused(NoRoute::Redirected { .. }) => "X acs",
        Verdict::Refused(NoRoute::NotPci(_)) => "X bus",
        Verdict::Refused(NoRoute::UnknownProvider(_) | NoRoute::UnknownInitiator(_)) => "--",
    }
    .to_owned()
}

fn grid(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The codes that the matrix has, explained.
fn legend(cells: &[String]) -> String {
    let code = |cell: &String| match cell.split_once(' ') {
        Some((code @ ("BUS" | "BUS?"), _)) => code.to_owned(),
        _ => cell.clone(),
    };
    let used: BTreeSet<_> = cells.iter().map(code).collect();
    let lines = LEGEND.iter().filter(|(code, _)| used.contains(*code));
    lines.map(|(code, meaning)| format!("{code:8} {meaning}")).collect::<Vec<_>>().join("\n")
}
