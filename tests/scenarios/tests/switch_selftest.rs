//! Profile `switch`: every byte arrives where there is a route, and only root may say otherwise.
#![allow(missing_docs, clippy::unwrap_used)]

use peermem_proto::{ByteLen, OnDemandFinding};
use peermem_scenarios::{
    command::{fail, json, peermemctl, run, succeed},
    daemon::Daemon,
    drive::Drive,
    leased::{request, rxe},
    user::User,
    wait::until,
};

#[test]
fn every_byte_arrives_where_there_is_a_route() {
    let daemon = Daemon::start();
    let [a, b, c] = ["a", "b", "c"].map(Drive::named);
    let before = a.read(0, 4096);
    let pairs = json(&succeed(&mut peermemctl("selftest --pairs")));
    for (from, to, expected) in
        [(&a, &b, "arrived"), (&b, &a, "arrived"), (&a, &a, "arrived"), (&a, &c, "no_route")]
    {
        let (initiator, region) = (from.initiator().to_string(), to.region().to_string());
        let pairs = pairs.as_array().unwrap();
        let found = pairs.iter().find(|pair| pair["initiator"] == initiator && pair["region"] == region);
        assert_eq!(found.unwrap()["result"]["kind"], expected, "{initiator} to {region}");
    }
    assert_eq!(a.read(0, 4096), before, "a drive was written to");
    assert!(daemon.client().leases().unwrap().is_empty());
}

#[test]
fn a_lease_carries_what_the_unit_found() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let wanted = request(Drive::named("a").region(), ByteLen::new(4096), &[rxe()]);
    assert_eq!(client.map(&wanted).unwrap().info().paths[0].found, None);
    run("systemctl start peermem-selftest.service");
    let found = client.map(&wanted).unwrap().info().paths[0].found.clone().unwrap();
    assert_eq!(found.on_demand, OnDemandFinding::PageAlignedOnly { min_path_mtu: 4096 });
    let labels = format!("device=\"rxe0\",dmabuf=\"{}\",on_demand=\"page_aligned_only\"", found.dmabuf);
    assert_eq!(daemon.metric(&format!("peermem_selftest_device{{{labels}}}")), Some(1.0));
}

#[test]
fn nobody_but_root_says_what_was_found() {
    let _daemon = Daemon::start();
    let user = User::add_member("tester");
    let said = fail(&mut user.command(&peermemctl("selftest --report")), 1);
    assert!(said.contains("only root may report"), "{said}");
}

#[test]
fn enabled_the_self_test_follows_every_start_of_the_daemon() {
    run("systemctl enable peermem-selftest.service");
    let daemon = Daemon::start();
    let client = daemon.client();
    let wanted = request(Drive::named("a").region(), ByteLen::new(4096), &[rxe()]);
    let found =
        until("the self-test has reported", || client.map(&wanted).unwrap().info().paths[0].found.clone());
    // Returns when a run that is under way has ended.
    run("systemctl start peermem-selftest.service && systemctl disable peermem-selftest.service");
    assert_eq!(found.on_demand, OnDemandFinding::PageAlignedOnly { min_path_mtu: 4096 });
}
