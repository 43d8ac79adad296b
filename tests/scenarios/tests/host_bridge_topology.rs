//! The topology's verdicts against the kernel's: profile `host-bridge`, whose CPU passes on what meets in no bridge.

use peermem_proto::Route;
use peermem_scenarios::oracle::{assert_the_daemon_agrees, trials};

#[test]
fn every_pair_is_accepted_and_every_byte_arrives() {
    for trial in trials(&["a", "b", "c"]) {
        let inside = trial.is_own() || trial.is_between("a", "b");
        let expected = match &trial.predicted {
            Ok(Route::BusAddress { acs_checked: true }) => inside,
            Ok(Route::HostBridge { redirected_by, .. }) => !inside && redirected_by.is_empty(),
            _ => false,
        };
        assert!(expected && trial.kernel.is_ok() && trial.arrived, "{trial}");
    }
}

#[test]
fn the_daemon_grants_what_the_kernel_accepts() {
    assert_the_daemon_agrees(&trials(&["a", "b", "c"]));
}
