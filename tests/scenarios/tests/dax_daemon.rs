//! Profile `dax`: persistent memory as a device DAX, leased whole to one client at a time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::sync::Arc;

use peermem::{
    Client,
    rdma::{EndpointConfig, Operation, pattern},
    verbs::Access,
};
use peermem_proto::{ByteLen, Initiator, Method, ProviderKind, Refusal, Region, Revocation};
use peermem_scenarios::{
    command::run,
    daemon::{Daemon, UNIT, refusal},
    leased::{request, rxe},
    peers::{CpuAccess as _, Peers, Side},
    wait::until,
};

fn start() -> Daemon {
    // What the administrator's udev rule does.
    run("chown peermem /dev/dax0.0");
    Daemon::start_with(Some("[[dax.region]]\ndevice = \"dax0.0\"\nname = \"pmem\"\n"))
}

fn pmem(client: &Client) -> Region {
    client.regions().unwrap().into_iter().find(|region| region.name.as_str() == "pmem").unwrap()
}

/// The region, once it is zeroed and nobody has it.
fn free(client: &Client) -> Region {
    until("the device is cleared", || Some(pmem(client)).filter(|region| region.free == region.size))
}

#[test]
fn it_is_leased_whole_to_one_client_at_a_time_and_zeroed_in_between() {
    let daemon = start();
    let client = daemon.client();
    let region = free(&client);
    assert_eq!((region.provider, region.method), (ProviderKind::Dax, Method::Pinned));
    assert_eq!(region.revocation, Revocation::Advisory);
    let ask = |length, initiator: Initiator| client.map(&request(region.name.clone(), length, &[initiator]));
    let part = refusal(ask(ByteLen::new(2 << 20), rxe()));
    assert!(matches!(part, Refusal::NotAligned { .. }), "{part}");

    let lease = ask(region.size, rxe()).unwrap();
    let written = pattern::bytes(1, 1 << 20);
    let mapping = lease.mapping().unwrap();
    mapping.copy_from_slice(12_345, &written).unwrap();
    let taken = refusal(ask(region.size, rxe()));
    assert!(matches!(taken, Refusal::NotEnoughSpace { .. }), "{taken}");
    drop(mapping);
    lease.unmap().unwrap();

    free(&client);
    let lease = ask(region.size, rxe()).unwrap();
    let mut seen = vec![1; written.len()];
    lease.mapping().unwrap().copy_to_slice(12_345, &mut seen).unwrap();
    assert!(seen.iter().all(|&byte| byte == 0), "an earlier client's bytes show");
}

#[test]
fn pinned_registrations_of_it_move_byte_for_byte_at_any_alignment() {
    let daemon = start();
    let client = daemon.client();
    let region = free(&client);
    let lease = client.map(&request(region.name, region.size, &[rxe()])).unwrap();
    let mut peers = Peers::connect(&EndpointConfig::default());
    let registered = lease.register(&peers.pd, Access::REMOTE_READ | Access::REMOTE_WRITE).unwrap();
    let there = Side { memory: lease.mapping().unwrap(), region: registered };
    let here = Side::host(&peers.pd, ByteLen::new(2 << 20), Method::Pinned);
    for operation in [Operation::Write, Operation::Read] {
        for (near, far, length) in [(0, 0, 1), (1, 4095, 2), (513, 77, 70_001), (4097, 1, (1 << 20) + 5)] {
            peers.check(operation, (&here, near), (&there, far), length).unwrap();
        }
    }
}

#[test]
fn a_restart_zeroes_nothing_that_a_client_has() {
    let daemon = start();
    let client = daemon.client();
    let region = free(&client);
    let lease = client.map(&request(region.name, region.size, &[rxe()])).unwrap();
    let mapping = Arc::clone(&lease.mapping().unwrap());
    let written = pattern::bytes(2, 4096);
    mapping.copy_from_slice(0, &written).unwrap();
    run(&format!("systemctl restart {UNIT}"));
    client.status().unwrap();
    assert!(!lease.is_lost());
    assert_eq!(pmem(&client).free, ByteLen::ZERO);
    assert_eq!(mapping.all()[..4096], written);
    drop(mapping);
    lease.unmap().unwrap();
    free(&client);
}
