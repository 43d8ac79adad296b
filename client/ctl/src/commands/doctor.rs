//! `peermemctl doctor`

use std::path::Path;

use anyhow::Result;
use peermem_doctor::{
    Asked, Finding, Roots, Tally,
    check::{self, Pair},
    facts::Facts,
};
use peermem_topology::Snapshot;
use serde::Serialize;

use super::topo::{devices, pair};
use crate::{cli::Doctor, failure::Unwell, output::Output};

/// What `--json` prints. A field is never renamed or removed; checks come and go by their names.
#[derive(Debug, Serialize)]
struct Report<'a> {
    tally: Tally,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a peermem_topology::PathReport>,
    findings: &'a [Finding],
}

pub(crate) fn run(socket: Option<&Path>, args: &Doctor, output: &Output) -> Result<()> {
    let asked = Asked { socket: socket.map(Path::to_owned), unit: args.unit.clone() };
    let facts = Facts::gather(&Roots::default(), &asked);
    let snapshot = facts.topology.clone().unwrap_or_default();
    let (path, findings) = match args.pair.as_deref() {
        Some([provider, initiator]) => {
            let provider = devices::provider(&snapshot, provider)?;
            let Pair { path, findings } =
                check::pair(&facts, provider, &devices::initiator(&snapshot, initiator)?);
            (Some(path), findings)
        }
        _ => (None, check::all(&facts)),
    };
    let report = Report { tally: Tally::of(&findings), path: path.as_ref(), findings: &findings };
    if output.is_json() {
        output.json(&report)?;
    } else {
        print(&snapshot, &report, output)?;
    }
    match report.tally {
        Tally { fail: 0, warn: 0, .. } => Ok(()),
        tally => Err(Unwell(tally).into()),
    }
}

fn print(snapshot: &Snapshot, report: &Report<'_>, output: &Output) -> Result<()> {
    if let Some(path) = report.path {
        pair::print(snapshot, path, output)?;
        output.line("")?;
    }
    output.rows(report.findings.iter().map(row))?;
    if report.tally.fail + report.tally.warn == 0 {
        output.line(&format!("\n{}", report.tally))?;
    }
    Ok(())
}

fn row(finding: &Finding) -> [String; 4] {
    let mut text = finding.measured.clone();
    if let Some(why) = &finding.why {
        text += &format!(". {}", capitalised(why));
    }
    if let Some(fix) = &finding.fix {
        text += &format!(". Fix: {fix}");
    }
    [finding.verdict.to_string(), finding.check.to_owned(), finding.about.clone(), text]
}

/// With a capital, as a sentence begins.
fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}
