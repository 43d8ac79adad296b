//! Pools of peer-to-peer memory: published, free, and not held by somebody who is gone.

use peermem_proto::{ByteLen, PciAddress, ProviderKind, Region};
use peermem_topology::{MemoryKind, P2pmem};

use super::scope::Scope;
use crate::{
    Finding,
    facts::{Daemon, Facts},
};

pub(super) fn all(facts: &Facts, scope: &Scope<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (&address, kinds) in &scope.providers {
        let pool = scope.snapshot.functions.get(&address).and_then(|function| function.details.p2pmem);
        let about = scope.name(address);
        match pool {
            Some(pool) => {
                findings.push(published(facts, address, &about, pool));
                findings.push(leftover(facts, address, &about, pool));
            }
            None if kinds.contains(&MemoryKind::Cmb) => findings.push(no_pool(&about)),
            None => {}
        }
    }
    if scope.providers.is_empty() {
        let why = "there is nothing to lease: no NVMe CMB, GPU, vfio-bound function or large BAR was found";
        let measured = "no device of this node has memory to give";
        findings.push(
            Finding::warn("provider", "node", measured, why).fix("try it with `peermemd --emulate 64MiB`"),
        );
    }
    findings
}

/// The regions that the daemon makes of a device's pool.
fn regions_of(daemon: &Daemon, address: PciAddress) -> impl Iterator<Item = &Region> {
    let regions = daemon.regions.iter();
    regions.filter(move |region| region.provider == ProviderKind::P2pmem && region.device == Some(address))
}

fn published(facts: &Facts, address: PciAddress, about: &str, pool: P2pmem) -> Finding {
    const CHECK: &str = "p2pmem";
    // What the daemon holds is free to be leased, whatever the kernel says of it.
    let region = facts.daemon.as_ref().ok().and_then(|daemon| regions_of(daemon, address).next());
    let free = region.map_or(pool.available, |region| region.free);
    let space = format!("{free} of {} are free", pool.size);
    if !pool.published {
        let why = "its driver keeps it for itself: a CMB that can't hold data both ways isn't published";
        return Finding::warn(CHECK, about, format!("not published; {space}"), why)
            .fix("see CMBSZ in `nvme show-regs -H`: RDS and WDS must be set");
    }
    if free.is_zero() {
        return Finding::warn(
            CHECK,
            about,
            format!("published; {space}"),
            "nothing more can be leased from it",
        )
        .fix("`peermemctl leases` names the holders");
    }
    Finding::pass(CHECK, about, format!("published; {space}"))
}

fn no_pool(about: &str) -> Finding {
    let why = "the CMB can't be leased: the kernel has no pool of it";
    Finding::warn("p2pmem", about, "a Controller Memory Buffer and no p2pmem pool", why)
        .fix("run a kernel with CONFIG_PCI_P2PDMA=y; see `dmesg | grep -i cmb`")
}

/// What is taken out of the pool, and neither the driver's nor leased.
fn leftover(facts: &Facts, address: PciAddress, about: &str, pool: P2pmem) -> Finding {
    const CHECK: &str = "p2pmem-leftover";
    let taken = pool.size.get().saturating_sub(pool.available.get());
    let Some(driver) = facts.driver_shares.get(&address) else {
        let measured = format!("{} are taken; how much the driver has isn't known", ByteLen::new(taken));
        return Finding::unknown(CHECK, about, measured);
    };
    let others = taken.saturating_sub(driver.get());
    if others == 0 {
        return Finding::pass(CHECK, about, format!("nothing is taken beyond the driver's {driver}"));
    }
    let taken = ByteLen::new(others);
    let Ok(daemon) = &facts.daemon else {
        let measured = format!("{taken} are taken; which of it is leased, only the daemon knows");
        return Finding::unknown(CHECK, about, measured);
    };
    let held = match &daemon.holds {
        Ok(holds) => holds.get(&address).copied().unwrap_or_default(),
        Err(unseen) => {
            let measured =
                format!("{taken} are taken; how much of it the daemon holds isn't known: {unseen}");
            return Finding::unknown(CHECK, about, measured);
        }
    };
    // What has ended and didn't come back isn't free, and isn't leased either.
    let leased = regions_of(daemon, address).map(|region| {
        region.size.get().saturating_sub(region.free.get()).saturating_sub(region.missing.get())
    });
    let leased = ByteLen::new(leased.sum());
    let leftover = taken.saturating_sub(held).saturating_sub(leased);
    if leftover.is_zero() {
        let measured = format!("all {taken} that are taken are leased, or held for leases to come");
        return Finding::pass(CHECK, about, measured);
    }
    let measured = format!(
        "{leftover} are taken, and neither leased ({leased}), held for leases ({held}) nor the driver's ({driver})"
    );
    let why = "somebody maps or registers this memory without a lease, or outlived one";
    Finding::warn(CHECK, about, measured, why)
        .fix("`grep -l p2pmem/allocate /proc/[0-9]*/maps` as root names the processes: end them")
}
