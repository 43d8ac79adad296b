//! Mapping, giving back, registering: what is granted and what is refused.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::File,
    os::{fd::OwnedFd, unix::fs::FileExt},
};

use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};
use support::{Daemon, code, eventually, map_request};

#[test]
fn a_lease_is_fresh_memory_of_its_own() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let (first, one) = client.map(8192);
    let (second, two) = client.map(8192);
    assert_ne!(first, second);
    let (one, two) = (File::from(one), File::from(two));
    one.write_all_at(b"mine", 0).unwrap();
    let mut bytes = [1; 4];
    two.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [0; 4], "two leases share bytes");
    assert!(one.set_len(0).is_err(), "a lease was cut short under its holder's feet");
    assert!(one.set_len(1 << 20).is_err(), "a lease grew");

    let leases = client.call("ListLeases", json!({}));
    let listed = leases["parameters"]["leases"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["owner"]["pid"], std::process::id());
    assert_eq!(listed[0]["emulated"], true);
    let path = json!({ "initiator": "emulated", "route": { "kind": "software" } });
    assert_eq!(listed[0]["paths"], json!([path]));
}

#[test]
fn what_is_given_back_is_free_again() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let whole = client.free();
    let (lease, _fd) = client.map(whole);
    assert_eq!(client.free(), 0);
    let refused = client.call("Map", map_request(4096));
    assert_eq!(code(&refused), "NotEnoughSpace");
    assert_eq!(
        (&refused["parameters"]["requested"], &refused["parameters"]["free"]),
        (&json!(4096), &json!(0))
    );
    assert_eq!(client.call("Unmap", json!({ "lease": lease })), json!({ "parameters": {} }));
    assert_eq!(client.free(), whole);
    assert_eq!(code(&client.call("Unmap", json!({ "lease": lease }))), "UnknownLease");
}

#[test]
fn a_mapping_that_makes_no_sense_is_refused_for_its_reason() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let with = |field: &str, value: Value| {
        let mut request = map_request(4096);
        request[field] = value;
        request
    };
    for (request, expected, says) in [
        (with("region", json!("nope")), "UnknownRegion", "no region is named nope"),
        (with("length", json!(0)), "ZeroLength", "at least 4KiB"),
        (with("length", json!(2 << 20)), "NotEnoughSpace", "2MiB of region emulated"),
        (with("length", json!(u64::MAX - 4095)), "NotEnoughSpace", "are free"),
        (with("length", json!(4097)), "NotAligned", "length 4097B isn't a multiple of 4KiB"),
        (with("length", json!(-1)), "InvalidParameter", "parameter length"),
        (with("length", json!(1.5)), "InvalidParameter", "parameter length"),
        (with("length", Value::Null), "BadExtent", "give a length"),
        (with("offset", json!(0)), "BadExtent", "no offset"),
        (with("offset", json!(u64::MAX)), "BadExtent", "exceeds 2^64"),
        (
            with("initiators", json!(["emulated", "rdma:absent0"])),
            "UnknownInitiator",
            "rdma:absent0 isn't on this node",
        ),
        (with("initiators", json!(["pci:ffff:ff:1f.7"])), "UnknownInitiator", "isn't on this node"),
        (with("initiators", json!(["rdma:../etc"])), "InvalidParameter", "parameter initiators[0]"),
        (with("initiators", json!([])), "InitiatorCount", "1 to 8 initiators, and 0 were named"),
        (with("initiators", json!(vec!["emulated"; 9])), "InitiatorCount", "9 were named"),
        (with("direction", json!("sideways")), "InvalidParameter", "parameter direction"),
        (with("region", json!("a b")), "InvalidParameter", "can't name a region"),
    ] {
        let (reply, fds) = client.call_with("Map", request.clone(), vec![]);
        assert_eq!(code(&reply), expected, "{request}: {reply}");
        let message = reply["parameters"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{says:?} isn't in {message:?}");
        assert!(fds.is_empty());
    }
    assert_eq!(client.free(), 1 << 20, "a refusal cost memory");
}

#[test]
fn only_its_holder_gives_a_lease_back() {
    let daemon = Daemon::start();
    let (mut one, mut two) = (daemon.connect(), daemon.connect());
    let (lease, _fd) = one.map(4096);
    let refused = two.call("Unmap", json!({ "lease": lease }));
    assert_eq!(code(&refused), "NotYours");
    assert_eq!(one.free(), (1 << 20) - 4096);
}

#[test]
fn a_client_that_goes_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let mut watcher = daemon.connect();
    watcher.assert_alive();
    let before = daemon.descriptors();
    let mut client = daemon.connect();
    let held: Vec<_> = (0..16).map(|_| client.map(4096)).collect();
    assert_eq!(watcher.free(), (1 << 20) - 16 * 4096);
    drop((client, held));
    eventually("its memory is free", || watcher.free() == 1 << 20);
    eventually("its descriptors are closed", || daemon.descriptors() <= before);
}

#[test]
fn only_device_memory_can_be_registered() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let mut register = |device: &str, fd: OwnedFd| {
        let (reply, _) = client.call_with(
            "Register",
            json!({ "name": "gpu0", "device": device, "dmabuf_fd": 0 }),
            vec![fd],
        );
        reply
    };
    let memfd = || memfd_create("dmabuf:", MemfdFlags::CLOEXEC).unwrap();
    assert_eq!(code(&register("rubbish", memfd())), "InvalidParameter");
    let refused = register("0000:01:00.0", memfd());
    assert_eq!(code(&refused), "NotDeviceMemory", "{refused}");
    assert!(refused["parameters"]["message"].as_str().unwrap().contains("mapping RAM"), "{refused}");
    // A pipe whose other end is dead, and a file.
    let (read, write) = std::io::pipe().unwrap();
    drop(write);
    assert_eq!(code(&register("0000:01:00.0", read.into())), "NotDmabuf");
    let file = File::open("/dev/null").unwrap();
    assert_eq!(register("0000:01:00.0", file.into())["parameters"]["found"], "/dev/null");
    assert_eq!(code(&client.call("Unregister", json!({ "region": "emulated" }))), "NotYours");
    assert_eq!(code(&client.call("Unregister", json!({ "region": "gpu0" }))), "UnknownRegion");
}

#[test]
fn many_leases_are_listed_page_by_page() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let held: Vec<_> = (0..150).map(|_| client.map(4096)).collect();
    let (mut listed, mut after) = (Vec::new(), Value::Null);
    loop {
        let page = client.call("ListLeases", json!({ "after": after }))["parameters"].take();
        listed.extend(page["leases"].as_array().unwrap().iter().map(|lease| lease["id"].as_u64().unwrap()));
        after = json!(listed.last());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(listed, held.iter().map(|(lease, _)| *lease).collect::<Vec<_>>());
}
