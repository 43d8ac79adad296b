//! However a mapping ends, the engine reaches nothing afterwards.

use std::{fs, thread};

use peermem::{Client, rdma::pattern};
use peermem_proto::{Direction, DmaAddr, Event, LeaseEnd, ProviderKind, Revocation};
use peermem_scenarios::{
    daemon::SOCKET,
    events::Events,
    faults,
    owned::{LENGTH, Owner, engine, give_to_daemon, lease, lease_and_drive, removal, request},
    peers::CpuAccess as _,
    role::{Role, say, until_let_go},
    vfio::{FPGA, GPU, address_of, snapshot},
    wait::until,
};
use serde_json::json;

const BYTES: usize = 16 << 10;

#[test]
#[ignore = "a client in another test"]
fn role_of_a_client_that_dies() {
    let client = Client::connect_to(SOCKET).unwrap();
    let lease = client.map(&request("fpga", Direction::Bidirectional)).unwrap();
    say(&json!({ "id": lease.info().id, "at": lease.address_for(&engine()).unwrap() }));
    until_let_go();
}

#[test]
fn a_killed_clients_mapping_is_gone() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let from = gpu.address_for(&engine()).unwrap();
    let mut events = Events::of(&client);
    let role = Role::start("ends::role_of_a_client_that_dies", None);
    let said: serde_json::Value = role.hear();
    let to: DmaAddr = serde_json::from_value(said["at"].clone()).unwrap();
    edu.copy(&from, &to, LENGTH);
    assert_eq!(faults::within(to.iova, LENGTH), 0);
    role.kill();
    let reason = events.end_of(serde_json::from_value(said["id"].clone()).unwrap());
    assert_eq!(reason, LeaseEnd::OwnerGone);
    faults::expect(to.iova, LENGTH, || edu.copy(&from, &to, LENGTH));
    owner.until_free("fpga");
}

#[test]
fn a_revocation_takes_the_neighbours_memory_too_and_says_so() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let region = client.regions().unwrap().into_iter().find(|region| region.name.as_str() == "fpga").unwrap();
    assert_eq!((region.provider, region.revocation), (ProviderKind::Vfio, Revocation::Enforced));
    let (gpu, edu) = lease_and_drive(&client, "gpu");
    let [one, neighbour] = [0; 2].map(|_| lease(&client, "fpga"));
    let mut events = Events::of(&client);
    let [from, to] = [&gpu, &neighbour].map(|lease| lease.address_for(&engine()).unwrap());
    client.revoke(one.info().id).unwrap();
    let ends = [one.info().id, neighbour.info().id].map(|id| events.end_of(id));
    assert_eq!(ends, [LeaseEnd::Revoked, LeaseEnd::NeighbourRevoked]);
    // Although both clients still have their descriptors, the memory is everyone's again.
    owner.until_free("fpga");
    faults::expect(to.iova, LENGTH, || edu.copy(&from, &to, LENGTH));
    assert!(client.leases().unwrap().iter().any(|lease| lease.id == gpu.info().id), "another function's");

    let again = lease(&client, "fpga");
    owner.look_at(GPU, &gpu).put(0, &pattern::bytes(7, BYTES));
    edu.copy(&from, &again.address_for(&engine()).unwrap(), LENGTH);
    assert_eq!(owner.look_at(FPGA, &again).all(), pattern::bytes(7, BYTES));
}

#[test]
fn an_unplugged_function_takes_its_leases_along_and_comes_back() {
    let owner = Owner::start();
    let client = owner.daemon.client();
    let lease = lease(&client, "fpga");
    let mut events = Events::of(&client);
    let address = address_of(FPGA.0);
    let unplugging = thread::spawn(move || fs::write(removal(address), "1").unwrap());
    assert_eq!(events.end_of(lease.info().id), LeaseEnd::RegionGone);
    unplugging.join().unwrap();
    fs::write("/sys/bus/pci/rescan", "1").unwrap();
    until("the FPGA is back", || snapshot().functions.get(&address)?.details.is_vfio_bound().then_some(()));
    give_to_daemon();
    events.find("the region is back", |event| match event {
        Event::RegionAdded { region } if region.name.as_str() == "fpga" => Some(()),
        _ => None,
    });
    owner.until_free("fpga");
}
