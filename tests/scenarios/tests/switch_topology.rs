//! The topology's verdicts against the kernel's: profile `switch`, where only A and B share an upstream bridge.
#![allow(clippy::unwrap_used)]

use std::{path::Path, thread};

use caps::{CapSet, Capability};
use peermem_scenarios::oracle::{assert_the_daemon_agrees, snapshot, trials};
use peermem_topology::{Acs, ConfigSpaces, Snapshot};

#[test]
fn every_verdict_is_the_kernels() {
    for trial in trials(&["a", "b", "c"]) {
        assert_eq!(trial.kernel.is_ok(), trial.is_own() || trial.is_between("a", "b"), "{trial}");
        assert_eq!(trial.arrived, trial.kernel.is_ok(), "{trial}");
    }
}

#[test]
fn the_daemon_grants_what_the_kernel_accepts() {
    assert_the_daemon_agrees(&trials(&["a", "b", "c"]));
}

#[test]
fn acs_stays_readable_after_the_capability_is_dropped() {
    let configs = ConfigSpaces::open(Path::new("/sys")).unwrap();
    let privileged = snapshot(&configs);
    let registers = |snapshot: &Snapshot| {
        snapshot.functions.values().filter(|f| matches!(f.acs, Acs::Control(_))).count()
    };
    assert!(registers(&privileged) > 0, "QEMU's root ports have ACS");
    // Capabilities belong to a thread.
    thread::spawn(move || {
        caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
        assert_eq!(snapshot(&configs), privileged);
        let afresh = snapshot(&ConfigSpaces::open(Path::new("/sys")).unwrap());
        for (address, function) in &afresh.functions {
            // `express` tells PCI Express from conventional PCI, whose whole configuration space has no place for ACS.
            let expected = if function.express { Acs::Unreadable } else { Acs::Absent };
            assert_eq!(function.acs, expected, "{address}");
        }
    })
    .join()
    .unwrap();
}
