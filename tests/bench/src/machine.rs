//! What this process asks of the machine before it measures.

use anyhow::{Context, Result};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};

/// Keeps this process, and those that it starts, on one core. A client and its daemon take turns anyway: on one core, what
/// each costs adds up, and no idle core has to be woken.
pub(crate) fn pin_to_one_core() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    // The first one has the most interrupts.
    let last = (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).context("no core is allowed")?;
    let mut one = CpuSet::new();
    one.set(last);
    Ok(sched_setaffinity(None, &one)?)
}

/// Raises the limit of open files as far as it goes.
pub(crate) fn raise_descriptor_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}
