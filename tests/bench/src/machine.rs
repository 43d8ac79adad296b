//! What this process asks of the machine before it measures.

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use tempfile::TempDir;

/// Keeps this process, and those that it starts, on one core. A client and its daemon take turns anyway: on one core, what
/// each costs adds up, and no idle core has to be woken.
///
/// Returns the others, which were allowed too.
pub(crate) fn pin_to_one_core() -> Result<CpuSet> {
    let mut allowed = sched_getaffinity(None)?;
    // The first one has the most interrupts.
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).context("no core is allowed")?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one)?;
    allowed.unset(last);
    Ok(allowed)
}

/// Moves this process to those cores; what it has started stays where it is.
pub(crate) fn move_to(cores: &CpuSet) -> Result<()> {
    Ok(sched_setaffinity(None, cores)?)
}

/// A folder in memory, as `/run` is, where the daemon has its journal in earnest.
pub(crate) fn folder_in_memory() -> Result<TempDir> {
    tempfile::tempdir_in("/dev/shm").context("no folder in memory")
}

/// Raises the limit of open files as far as it goes.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
