//! Where a snapshot comes from and goes to.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use anyhow::{Context, Result, ensure};
use peermem_topology::{ConfigSpaces, Cpu, Snapshot};

use crate::output::Output;

/// Some hundred bytes a function: far more functions than any machine has.
const LARGEST: u64 = 64 << 20;

/// This machine, as far as the privileges reach.
pub(super) fn live() -> Result<Snapshot> {
    let sysfs = Path::new("/sys");
    let cpu = Cpu::read(Path::new("/proc/cpuinfo"))?;
    Ok(Snapshot::read_in_full(sysfs, cpu, &ConfigSpaces::open(sysfs)?)?)
}

/// A machine that was recorded.
pub(super) fn recorded(file: &Path) -> Result<Snapshot> {
    let context = || format!("can't read the snapshot {}", file.display());
    let mut text = String::new();
    let read = File::open(file).with_context(context)?.take(LARGEST).read_to_string(&mut text);
    ensure!((read.with_context(context)? as u64) < LARGEST, "{} is too large for a snapshot", file.display());
    serde_json::from_str(&text).with_context(context)
}

/// Writes this machine to a file.
pub(super) fn record(file: &Path, output: &Output) -> Result<()> {
    let mut snapshot = live()?;
    snapshot.origin = Some(format!("recorded by peermemctl {}", env!("CARGO_PKG_VERSION")));
    let text = serde_json::to_string_pretty(&snapshot)? + "\n";
    fs::write(file, text).with_context(|| format!("can't write {}", file.display()))?;
    if output.is_json() {
        return Ok(());
    }
    output.line(&format!("{} functions recorded in {}", snapshot.functions.len(), file.display()))
}
