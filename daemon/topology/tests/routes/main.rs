//! The kernel's verdicts, on machines composed by hand after `drivers/pci/p2pdma.c`.
#![allow(missing_docs, clippy::unwrap_used)]

mod composed;
mod machine;
mod properties;
mod recorded;

use peermem_proto::{Initiator, Route};
use peermem_topology::{Acs, Attachment, HostBridgeRefusal, NoRoute, Snapshot};

use machine::{
    DOWNSTREAM_0, DOWNSTREAM_1, DRIVE_A, DRIVE_B, DRIVE_C, NVME, OFF, REDIRECTS, ROOT_PORT_0, amd, at,
    switch, two_sockets,
};

const DIRECT: Route = Route::BusAddress { acs_checked: true };

fn route(snapshot: &Snapshot, provider: &str, initiator: &str) -> Result<Route, NoRoute> {
    snapshot.route(at(provider), &Initiator::Pci(at(initiator)))
}

fn rdma(name: &str) -> Initiator {
    Initiator::Rdma(name.parse().unwrap())
}

fn host_bridge(bridge: &str, redirected_by: &[&str]) -> Route {
    Route::HostBridge {
        bridge: bridge.to_owned(),
        redirected_by: redirected_by.iter().map(|port| at(port)).collect(),
    }
}

#[test]
fn below_one_switch() {
    let guest = switch().0;
    assert_eq!(route(&guest, DRIVE_A, DRIVE_B), Ok(DIRECT));
    assert_eq!(route(&guest, DRIVE_B, DRIVE_A), Ok(DIRECT));
    assert_eq!(guest.distance(at(DRIVE_A), at(DRIVE_B)), Some(4));
}

#[test]
fn each_reaches_itself() {
    let guest = switch().0;
    for drive in [DRIVE_A, DRIVE_B, DRIVE_C] {
        assert_eq!(route(&guest, drive, drive), Ok(DIRECT));
        assert_eq!(guest.distance(at(drive), at(drive)), Some(0));
    }
}

#[test]
fn two_root_ports_of_an_unlisted_host_bridge() {
    let guest = switch().0;
    for (provider, initiator) in
        [(DRIVE_A, DRIVE_C), (DRIVE_C, DRIVE_A), (DRIVE_B, DRIVE_C), (DRIVE_C, DRIVE_B)]
    {
        let error = route(&guest, provider, initiator).unwrap_err();
        assert_eq!(
            error.to_string(),
            "they share no upstream bridge, and host bridge 8086:29c0 of root bus 0000:00 isn't in the kernel's list \
             (drivers/pci/p2pdma.c), nor is the CPU an AMD Zen: put both devices below one PCIe switch"
        );
    }
    assert_eq!(guest.distance(at(DRIVE_A), at(DRIVE_C)), Some(6), "4 functions deep and 2 deep");
}

#[test]
fn zen_lets_every_pair_pass() {
    let guest = switch().cpu(amd(0x17)).0;
    for provider in [DRIVE_A, DRIVE_B, DRIVE_C] {
        for initiator in [DRIVE_A, DRIVE_B, DRIVE_C] {
            let meets = provider == initiator || ![provider, initiator].contains(&DRIVE_C);
            let expected = if meets { DIRECT } else { host_bridge("0000:00", &[]) };
            assert_eq!(route(&guest, provider, initiator), Ok(expected), "{provider} {initiator}");
        }
    }
    assert!(route(&switch().cpu(amd(0x16)).0, DRIVE_A, DRIVE_C).is_err(), "family 16h isn't Zen");
}

#[test]
fn redirected_at_a_downstream_port() {
    let guest = switch().acs(DOWNSTREAM_1, REDIRECTS);
    for (provider, initiator) in [(DRIVE_A, DRIVE_B), (DRIVE_B, DRIVE_A)] {
        let error = route(&guest.0, provider, initiator).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ACS redirects peer-to-peer traffic to the host bridge at 0000:02:01.0, and host bridge 8086:29c0 of root \
             bus 0000:00 isn't in the kernel's list (drivers/pci/p2pdma.c), nor is the CPU an AMD Zen: boot with \
             pci=disable_acs_redir=0000:02:01.0, which gives up the isolation between the devices below"
        );
    }
    let guest = guest.acs(DOWNSTREAM_0, REDIRECTS);
    let error = route(&guest.0, DRIVE_A, DRIVE_B).unwrap_err().to_string();
    assert!(error.contains("pci=disable_acs_redir=0000:02:00.0;0000:02:01.0,"), "{error}");

    let guest = guest.cpu(amd(0x19)).0;
    assert_eq!(route(&guest, DRIVE_A, DRIVE_B), Ok(host_bridge("0000:00", &[DOWNSTREAM_0, DOWNSTREAM_1])));
    assert_eq!(guest.distance(at(DRIVE_A), at(DRIVE_B)), Some(4), "the distance doesn't tell of the detour");
}

#[test]
fn ports_above_the_common_bridge_do_not_matter() {
    assert_eq!(route(&switch().acs(ROOT_PORT_0, REDIRECTS).0, DRIVE_A, DRIVE_B), Ok(DIRECT));
    assert_eq!(route(&switch().acs(ROOT_PORT_0, Acs::Unreadable).0, DRIVE_A, DRIVE_B), Ok(DIRECT));
}

#[test]
fn a_port_that_can_not_be_read_is_told() {
    for port in [DOWNSTREAM_0, DOWNSTREAM_1, "0000:01:00.0", DRIVE_A] {
        let guest = switch().acs(port, Acs::Unreadable).0;
        assert_eq!(route(&guest, DRIVE_A, DRIVE_B), Ok(Route::BusAddress { acs_checked: false }), "{port}");
    }
    let mut guest = switch().0;
    guest.functions.remove(&at(DOWNSTREAM_0));
    assert_eq!(route(&guest, DRIVE_A, DRIVE_B), Ok(Route::BusAddress { acs_checked: false }), "vanished");
}

#[test]
fn functions_of_one_device() {
    let machine = switch().with("0000:00/0000:00:04.0/0000:05:00.1", "1b36:0010", NVME, Acs::Absent);
    let other = "0000:05:00.1";
    assert_eq!(route(&machine.0, DRIVE_C, other), Ok(DIRECT));
    assert_eq!(machine.0.distance(at(DRIVE_C), at(other)), Some(2));

    // The kernel looks at the common bridge, and at the functions themselves, as at any other port.
    let error = route(&machine.acs("0000:00:04.0", REDIRECTS).0, DRIVE_C, other).unwrap_err();
    assert!(matches!(error, NoRoute::Redirected { ports, .. } if ports == [at("0000:00:04.0")]));
    let machine = switch().with("0000:00/0000:00:04.0/0000:05:00.1", "1b36:0010", NVME, REDIRECTS);
    let error = route(&machine.0, DRIVE_C, other).unwrap_err();
    assert!(matches!(error, NoRoute::Redirected { ports, .. } if ports == [at(other)]));
    assert!(
        route(&machine.0, other, other).is_err(),
        "even to itself: calc_map_type_and_dist has no shortcut"
    );
}

#[test]
fn a_listed_host_bridge() {
    let (one, neighbour, across) = ("0000:01:00.0", "0000:02:00.0", "0000:81:00.0");
    let skylake = two_sockets("8086:2020").0;
    assert_eq!(route(&skylake, one, neighbour), Ok(host_bridge("0000:00", &[])));
    assert_eq!(route(&skylake, one, across), Ok(host_bridge("0000:00 and 0000:80", &[])));

    let haswell = two_sockets("8086:2f00").0;
    assert_eq!(route(&haswell, one, neighbour), Ok(host_bridge("0000:00", &[])));
    let error = route(&haswell, one, across).unwrap_err();
    assert!(error.to_string().contains(
        "host bridge 8086:2f00 of root bus 0000:00 passes peer-to-peer traffic between its own devices only, and the \
         other device is below root bus 0000:80"
    ));
}

#[test]
fn both_host_bridges_must_be_listed() {
    let mixed = two_sockets("8086:2020").id("0000:80:00.0", "8086:29c0").0;
    for (provider, initiator) in [("0000:01:00.0", "0000:81:00.0"), ("0000:81:00.0", "0000:01:00.0")] {
        let refusal = match route(&mixed, provider, initiator).unwrap_err() {
            NoRoute::HostBridge(HostBridgeRefusal::Unlisted { root, .. }) => root.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refusal, "0000:80");
    }
}

#[test]
fn the_first_device_may_be_a_root_port() {
    // Skylake has no device 00.0: its root ports come first, and are listed themselves.
    let mut skylake = two_sockets("8086:2020").0;
    skylake.functions.remove(&at("0000:00:00.0"));
    assert_eq!(route(&skylake, "0000:01:00.0", "0000:02:00.0"), Ok(host_bridge("0000:00", &[])));

    skylake.functions.get_mut(&at("0000:00:01.0")).unwrap().express = false;
    let error = route(&skylake, "0000:01:00.0", "0000:02:00.0").unwrap_err();
    assert!(matches!(error, NoRoute::HostBridge(HostBridgeRefusal::Unidentified { .. })), "{error:?}");
}

#[test]
fn rdma_devices() {
    let nic = "0000:04:00.0";
    let guest = switch()
        .rdma("mlx5_0", Attachment::Pci { address: at(nic) })
        .rdma("hns_0", Attachment::Other {})
        .rdma("stale", Attachment::Pci { address: at("0000:7f:00.0") })
        .0;
    assert_eq!(guest.route(at(DRIVE_A), &rdma("mlx5_0")), Ok(DIRECT));
    assert!(guest.route(at(DRIVE_C), &rdma("mlx5_0")).is_err());
    for drive in [DRIVE_A, DRIVE_C] {
        assert_eq!(guest.route(at(drive), &rdma("rxe0")), Ok(Route::Software {}));
        assert_eq!(guest.route(at(drive), &Initiator::Emulated), Ok(Route::Software {}));
        assert!(matches!(guest.route(at(drive), &rdma("hns_0")), Err(NoRoute::NotPci(_))));
        for gone in ["mlx5_9", "stale"] {
            assert_eq!(guest.route(at(drive), &rdma(gone)), Err(NoRoute::UnknownInitiator(rdma(gone))));
        }
    }
}

#[test]
fn what_is_not_there_is_named() {
    let guest = switch().0;
    let nowhere = "0000:7f:00.0";
    assert_eq!(route(&guest, nowhere, DRIVE_A), Err(NoRoute::UnknownProvider(at(nowhere))));
    assert_eq!(guest.route(at(nowhere), &rdma("rxe0")), Err(NoRoute::UnknownProvider(at(nowhere))));
    let initiator = Initiator::Pci(at(nowhere));
    assert_eq!(guest.route(at(DRIVE_A), &initiator), Err(NoRoute::UnknownInitiator(initiator)));
    assert_eq!(guest.distance(at(DRIVE_A), at(nowhere)), None);
}

#[test]
fn off_is_not_redirecting() {
    let guest = switch().acs(DOWNSTREAM_0, OFF).acs(DOWNSTREAM_1, OFF).0;
    assert_eq!(route(&guest, DRIVE_A, DRIVE_B), Ok(DIRECT));
}
