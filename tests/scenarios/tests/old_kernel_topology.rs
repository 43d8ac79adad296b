//! A kernel without P2PDMA: profile `old-kernel`, whose drives have a Controller Memory Buffer (CMB) that nobody offers.
#![allow(clippy::unwrap_used)]

use peermem_scenarios::{
    command::{fail, json, peermemctl},
    daemon::Daemon,
    drive::Drive,
    oracle::snapshot,
    peers::device,
};
use peermem_topology::ConfigSpaces;

#[test]
fn the_kernel_offers_no_cmb_and_no_on_demand_paging() {
    for serial in ["a", "b", "c"] {
        let drive = Drive::named(serial);
        assert!(!drive.allocator().exists(), "{drive:?}");
    }
    assert!(!device().attributes().unwrap().odp.supported);
}

#[test]
fn the_tree_is_read_as_on_a_newer_kernel() {
    let snapshot = snapshot(&ConfigSpaces::open("/sys".as_ref()).unwrap());
    let [a, b, c] = ["a", "b", "c"].map(Drive::named);
    assert!(snapshot.route(a.address, &b.initiator()).is_ok());
    assert!(snapshot.route(a.address, &c.initiator()).is_err());
}

#[test]
fn the_daemon_starts_and_has_no_cmb_to_map() {
    let daemon = Daemon::start_with(None);
    assert_eq!(daemon.client().regions().unwrap(), []);
    for serial in ["a", "b", "c"] {
        let region = Drive::named(serial).region();
        let said = fail(&mut peermemctl(&format!("map {region} --size 64KiB")), 1);
        assert_eq!(json(&said)["error"], "io.peermem.Broker.UnknownRegion", "{said}");
    }
}
