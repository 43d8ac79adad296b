//! Hotplug as the kernel tells of it: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs, future::Future, time::Duration};

use peermem_proto::PciAddress;
use peermem_scenarios::{command::run, drive::Drive, plug::Unplugged, wait::PATIENCE};
use peermemd::uevent::{Change, PciAction, RdmaAction, Uevents};
use rustix::net::{
    AddressFamily, SendFlags, SocketType,
    netlink::{KOBJECT_UEVENT, SocketAddrNetlink},
    sendto, socket,
};

fn in_runtime<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// The changes that `counts`, up to `last`.
async fn changes_until(
    uevents: &mut Uevents,
    counts: impl Fn(&Change) -> bool,
    last: &Change,
) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.last() != Some(last) {
        let change = tokio::time::timeout(PATIENCE, uevents.next()).await;
        let change =
            change.unwrap_or_else(|_| panic!("waited in vain for {last:?} after {changes:?}")).unwrap();
        changes.extend(Some(change).filter(&counts));
    }
    changes
}

fn pci(address: PciAddress, action: PciAction) -> Change {
    Change::Pci { address, action }
}

fn is_about(function: PciAddress) -> impl Fn(&Change) -> bool {
    move |change| matches!(change, Change::Pci { address, .. } if *address == function)
}

/// Has the kernel send a change that changes nothing.
fn ask_for_a_change(function: PciAddress) {
    fs::write(format!("/sys/bus/pci/devices/{function}/uevent"), "change").unwrap();
}

#[test]
fn uevents_tell_of_a_drive_that_goes_and_comes_back() {
    let drive = Drive::named("c");
    let address = drive.address;
    in_runtime(async {
        let mut uevents = Uevents::open().unwrap();
        let unplugged = Unplugged::new(drive);
        let gone = changes_until(&mut uevents, is_about(address), &pci(address, PciAction::Remove)).await;
        assert_eq!(gone, [pci(address, PciAction::Unbind), pci(address, PciAction::Remove)]);
        drop(unplugged);
        let back = changes_until(&mut uevents, is_about(address), &pci(address, PciAction::Bind)).await;
        assert_eq!(back, [pci(address, PciAction::Add), pci(address, PciAction::Bind)]);
    });
    assert_eq!(Drive::named("c").address, address);
}

#[test]
fn uevents_tell_of_rdma_devices_and_of_their_new_names() {
    let rdma = |name: &str, action| Change::Rdma { name: name.parse().unwrap(), action };
    in_runtime(async {
        let mut uevents = Uevents::open().unwrap();
        run(
            "rdma link add early type rxe netdev lo && rdma dev set early name late && rdma link delete late",
        );
        let last = rdma("late", RdmaAction::Remove);
        let changes =
            changes_until(&mut uevents, |change| matches!(change, Change::Rdma { .. }), &last).await;
        let rename = RdmaAction::Rename { from: "early".parse().unwrap() };
        assert_eq!(changes, [rdma("early", RdmaAction::Add), rdma("late", rename), last]);
    });
}

#[test]
fn a_uevent_that_a_process_sent_does_not_count() {
    let address = Drive::named("c").address;
    in_runtime(async {
        let mut uevents = Uevents::open().unwrap();
        let forger = socket(AddressFamily::NETLINK, SocketType::RAW, Some(KOBJECT_UEVENT)).unwrap();
        let path = format!("/devices/pci0000:00/{address}");
        let forged = format!("remove@{path}\0ACTION=remove\0DEVPATH={path}\0SUBSYSTEM=pci\0");
        sendto(&forger, forged.as_bytes(), SendFlags::empty(), &SocketAddrNetlink::new(0, 1)).unwrap();
        ask_for_a_change(address);
        let real = pci(address, PciAction::Change);
        assert_eq!(changes_until(&mut uevents, is_about(address), &real).await, [real]);
    });
}

#[test]
fn lost_uevents_are_said_once_and_listening_goes_on() {
    let address = Drive::named("c").address;
    in_runtime(async {
        let mut uevents = Uevents::open().unwrap();
        // More than the socket holds, of a subsystem that doesn't matter here.
        for _ in 0..2000 {
            fs::write("/sys/class/mem/null/uevent", "change").unwrap();
        }
        assert_eq!(uevents.next().await.unwrap(), Change::Lost);
        // What it did hold must be out of it before there is room again.
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_secs(1), uevents.next()).await.is_err());
        }
        ask_for_a_change(address);
        let real = pci(address, PciAction::Change);
        let counts = |change: &Change| *change == Change::Lost || is_about(address)(change);
        assert_eq!(changes_until(&mut uevents, counts, &real).await, [real]);
    });
}
