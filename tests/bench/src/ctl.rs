//! `peermemctl bench` between the buffers of the guest's first two drives.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use peermem::{
    Client,
    proto::{ProviderKind, Region, RegionName},
};
use serde::Deserialize;

/// How many messages are under way at a time: as perftest has it.
pub(crate) const DEPTH: u32 = 128;

/// What it prints, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Report {
    measurements: Vec<Measured>,
}

/// One size, measured one way.
#[derive(Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) way: String,
    pub(crate) bytes: u64,
    pub(crate) depth: u32,
    pub(crate) bytes_per_second: f64,
    pub(crate) latency_ns: Percentiles,
    verified: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: u64,
}

/// The buffers of the first two drives.
pub(crate) fn buffers() -> Result<[Region; 2]> {
    first_two(ProviderKind::P2pmem)
}

/// The first two regions of that kind, in the order of their devices' addresses and their names.
pub(crate) fn first_two(kind: ProviderKind) -> Result<[Region; 2]> {
    let mut regions = Client::connect()?.regions()?;
    regions.retain(|region| region.provider == kind);
    regions.sort_by(|one, other| (one.device, &one.name).cmp(&(other.device, &other.name)));
    regions.truncate(2);
    <[Region; 2]>::try_from(regions).ok().with_context(|| format!("two regions of kind {kind} are needed"))
}

/// The command for that operation and these options.
pub(crate) fn bench(operation: &str, options: &[&str]) -> Result<Command> {
    let [from, to] = buffers()?;
    Ok(between(operation, [&from.name, &to.name], options))
}

/// The same between any two regions.
fn between(operation: &str, [from, to]: [&RegionName; 2], options: &[&str]) -> Command {
    let mut command = Command::new("peermemctl");
    command.args(["--json", "bench", operation, "--from", from.as_str(), "--to", to.as_str()]);
    command.arg(format!("--depth={DEPTH}")).args(options);
    command
}

/// Runs it; every byte must have arrived.
pub(crate) fn measure(operation: &str, ends: [&RegionName; 2], options: &[&str]) -> Result<Vec<Measured>> {
    let output = succeed(&mut between(operation, ends, options))?;
    let Report { measurements } = serde_json::from_str(&output)?;
    ensure!(measurements.iter().all(|measured| measured.verified), "bytes were wrong: {output}");
    Ok(measurements)
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn succeed(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("can't start {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}\n{}{}", output.status, text(&output.stdout), text(&output.stderr));
    }
    Ok(text(&output.stdout))
}
