//! `peermemctl selftest`

use anyhow::Result;
use peermem::{
    proto::{Method, RdmaName},
    rdma::selftest::{self, Alignment, Cell, Defect, Report, Verb},
    verbs::{Device, Mtu},
};

use crate::{
    cli::Selftest,
    failure::{Defective, Usage},
    initiator::rdma_devices,
    output::Output,
};

const HEADER: [&str; 6] =
    ["verb", "memory here -> there", "page-aligned", "to 64 bytes", "to 8 bytes", "to 1 byte"];

pub(crate) fn run(args: &Selftest, output: &Output) -> Result<()> {
    let device = match &args.device {
        Some(device) => device.clone(),
        None => only(rdma_devices())?,
    };
    let report = selftest::run(&Device::by_name(device.as_str())?.open()?, args.port)?;
    if output.is_json() {
        output.json(&report)?;
    } else {
        print(&report, output)?;
    }
    let unguarded = report.defects().filter(|(_, defect)| !defect.refused).count();
    match report.defects().count() {
        0 => Ok(()),
        wrong => Err(Defective { wrong, all: report.cells.len(), unguarded }.into()),
    }
}

fn only(devices: Vec<RdmaName>) -> Result<RdmaName, Usage> {
    let names = devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    match <[RdmaName; 1]>::try_from(devices) {
        Ok([only]) => Ok(only),
        Err(none) if none.is_empty() => Err(Usage(
            "this node has no RDMA device; over Ethernet: `rdma link add rxe0 type rxe netdev DEV`"
                .to_owned(),
        )),
        Err(_) => Err(Usage(format!("this node has several RDMA devices: choose by --device {names}"))),
    }
}

fn print(report: &Report, output: &Output) -> Result<()> {
    let mtus = report.mtus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    output.line(&format!("{} port {}, path MTU {mtus}", report.device, report.port))?;
    let mut rows: Vec<(Verb, Method, Method)> = Vec::new();
    for cell in &report.cells {
        let row = (cell.verb, cell.here, cell.there);
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    output.table(HEADER, rows.into_iter().map(|row| columns(report, row)))?;
    for untested in &report.untested {
        output.line(&format!("not tested: {}: {}", untested.method, untested.why))?;
    }
    for (_, defect) in examples(report) {
        let consequence =
            if defect.refused { "this library refuses it" } else { "this library does NOT refuse it" };
        output.line(&format!("defect ({consequence}): {}", defect.finding))?;
    }
    Ok(())
}

/// The first defect of each pair of methods, at page boundaries and elsewhere.
fn examples(report: &Report) -> Vec<(&Cell, &Defect)> {
    let kind = |cell: &Cell| (cell.here, cell.there, cell.alignment == Alignment::Page);
    let mut examples: Vec<(&Cell, &Defect)> = Vec::new();
    for (cell, defect) in report.defects() {
        if examples.iter().all(|(other, _)| kind(other) != kind(cell)) {
            examples.push((cell, defect));
        }
    }
    examples
}

fn columns(report: &Report, (verb, here, there): (Verb, Method, Method)) -> [String; 6] {
    let [page, line, word, byte] = Alignment::ALL.map(|alignment| {
        let is_it = |cell: &&Cell| {
            (cell.verb, cell.here, cell.there, cell.alignment) == (verb, here, there, alignment)
        };
        summary(&report.cells.iter().filter(is_it).collect::<Vec<_>>())
    });
    [verb.to_string(), format!("{here} -> {there}"), page, line, word, byte]
}

/// One word, where the packets' size makes no difference.
fn summary(cells: &[&Cell]) -> String {
    let sizes = |right: bool| {
        let sizes = cells.iter().filter(move |cell| cell.defect.is_none() == right);
        sizes.map(|cell| cell.mtu).collect::<Vec<Mtu>>()
    };
    let (right, wrong) = (sizes(true), sizes(false));
    match (right.iter().min(), wrong.iter().max()) {
        (None, None) => "-".to_owned(),
        (Some(_), None) => "right".to_owned(),
        (None, Some(_)) => "wrong".to_owned(),
        (Some(least), Some(most)) if least > most => format!("right from MTU {least}"),
        (Some(_), Some(_)) => {
            let wrong = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("wrong at MTU {wrong}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(mtu: Mtu, wrong: bool) -> Cell {
        let defect = wrong.then(|| Defect { finding: "8 bytes wrong".to_owned(), refused: true });
        let (here, there) = (Method::OnDemand, Method::Pinned);
        Cell { verb: Verb::Write, here, there, alignment: Alignment::Page, mtu, defect }
    }

    #[test]
    fn packet_sizes_are_told_apart_where_they_matter() {
        let summary = |wrong: [bool; 3]| {
            let mtus = [Mtu::Bytes1024, Mtu::Bytes2048, Mtu::Bytes4096];
            let cells: Vec<_> = mtus.into_iter().zip(wrong).map(|(mtu, wrong)| cell(mtu, wrong)).collect();
            super::summary(&cells.iter().collect::<Vec<_>>())
        };
        assert_eq!(summary([false, false, false]), "right");
        assert_eq!(summary([true, true, true]), "wrong");
        assert_eq!(summary([true, true, false]), "right from MTU 4096");
        assert_eq!(summary([false, true, false]), "wrong at MTU 2048");
        assert_eq!(super::summary(&[]), "-");
    }

    #[test]
    fn one_example_of_each_kind() {
        let cells = vec![cell(Mtu::Bytes256, true), cell(Mtu::Bytes512, true)];
        let report =
            Report { device: "rxe0".to_owned(), port: 1, mtus: Vec::new(), untested: Vec::new(), cells };
        assert_eq!(examples(&report).len(), 1);
    }
}
