//! `peermemctl topo`

pub(super) mod devices;
mod hierarchy;
mod matrix;
pub(super) mod pair;
mod source;
pub(super) mod svg;
mod tree;
mod words;

use std::fs;

use anyhow::{Context, Result};
use peermem_topology::{PathReport, Snapshot};

use self::{hierarchy::Hierarchy, matrix::Matrix};
use crate::{cli::Topo, output::Output};

pub(crate) fn run(args: &Topo, output: &Output) -> Result<()> {
    if let Some(file) = &args.record {
        return source::record(file, output);
    }
    let snapshot = match &args.snapshot {
        Some(file) => source::recorded(file)?,
        None => source::live()?,
    };
    let pair = args.pair.as_deref().map(|pair| explain(&snapshot, pair)).transpose()?;
    if let Some(file) = &args.svg {
        let text = svg::draw(&snapshot, &Hierarchy::new(&snapshot, pair.as_ref()), pair.as_ref());
        return fs::write(file, text).with_context(|| format!("can't write {}", file.display()));
    }
    match pair {
        Some(report) if output.is_json() => output.json(&report),
        Some(report) => pair::print(&snapshot, &report, output),
        None if output.is_json() => output.json(&Matrix::new(&snapshot)),
        None if args.tree => output.line(&tree::text(&Hierarchy::new(&snapshot, None))),
        None => output.line(&Matrix::new(&snapshot).text(args.snapshot.is_none())),
    }
}

fn explain(snapshot: &Snapshot, pair: &[String]) -> Result<PathReport> {
    let [provider, initiator] = pair else { unreachable!("clap takes two values") };
    Ok(snapshot.explain(devices::provider(snapshot, provider)?, &devices::initiator(snapshot, initiator)?))
}
