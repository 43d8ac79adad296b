//! The topology's verdicts against the kernel's, and what the bytes then do: profile `iommu`, where A and B are below a
//! switch without ACS, and C and D are functions of one device below a root port whose ACS the kernel has switched on.

use peermem_scenarios::{
    acs::NotRedirecting,
    drive::Drive,
    oracle::{Trial, assert_the_daemon_agrees, trials},
};
use peermem_topology::NoRoute;

/// The kernel's *yes* is worth nothing here: QEMU translates the bus address, finds nothing there, drops what the drive
/// writes, and the drive reports success.
fn assert_accepted_and_lost(trial: &Trial) {
    assert!(trial.kernel.is_ok() && !trial.arrived, "{trial}");
}

#[test]
fn below_the_switch_the_kernel_accepts_and_no_byte_arrives() {
    for trial in trials(&["a", "b"]) {
        if trial.is_own() {
            assert!(trial.kernel.is_ok() && trial.arrived, "{trial}");
        } else {
            assert_accepted_and_lost(&trial);
        }
    }
}

#[test]
fn redirection_at_the_common_port_makes_the_kernel_refuse() {
    let port = Drive::named("c").port();
    for trial in trials(&["a", "b", "c", "d"]) {
        if trial.is_own() {
            assert!(trial.kernel.is_ok() && trial.arrived, "{trial}");
        } else if trial.is_between("c", "d") {
            let Err(NoRoute::Redirected { ports, .. }) = &trial.predicted else { panic!("{trial}") };
            assert_eq!(ports, &[port], "{trial}");
        } else if !trial.is_between("a", "b") {
            assert!(matches!(trial.predicted, Err(NoRoute::HostBridge(_))), "{trial}");
        }
    }
}

#[test]
fn without_redirection_the_kernel_accepts_the_same_pair_and_with_it_refuses_again() {
    let drives = ["c", "d"].map(Drive::named);
    let port = NotRedirecting::set(drives[0].port(), &drives);
    for trial in trials(&["c", "d"]) {
        if trial.is_own() {
            assert!(trial.kernel.is_ok() && trial.arrived, "{trial}");
        } else {
            assert_accepted_and_lost(&trial);
        }
    }
    drop(port);
    for trial in trials(&["c", "d"]) {
        assert_eq!(trial.kernel.is_ok(), trial.is_own(), "{trial}");
    }
}

#[test]
fn the_daemon_grants_what_the_kernel_accepts() {
    let mut trials = trials(&["a", "b", "c", "d"]);
    // What is accepted and lost is another matter than the kernel's verdict.
    trials.retain(|trial| trial.kernel.is_err() || trial.arrived);
    assert_the_daemon_agrees(&trials);
}
