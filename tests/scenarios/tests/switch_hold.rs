//! The hold of a real pool, without a daemon around it: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs::File, os::fd::AsFd as _};

use peermem::verbs::{Memory, MemoryError};
use peermem_proto::ByteLen;
use peermem_scenarios::{
    cmb,
    drive::Drive,
    plug::Unplugged,
    role::{Role, say, until_let_go},
    wait::until,
};
use peermemd::provider::p2pmem::{Amount, Device, Hold, Plan, PoolError, PrepareError};

const SIZE: ByteLen = ByteLen::new(4 << 20);
const PAGE: ByteLen = ByteLen::new(4096);

fn hold(drive: &Drive, plan: Plan) -> Hold {
    Hold::begin(Device::open(drive.allocator().parent().unwrap()).unwrap(), plan).unwrap()
}

/// What a program with a descriptor of the allocator gets.
fn map(drive: &Drive, length: ByteLen) -> Result<Memory, MemoryError> {
    let file = File::options().read(true).write(true).open(drive.allocator()).unwrap();
    Memory::shared(file.as_fd(), 0, length)
}

fn assert_refused(drive: &Drive, length: ByteLen) {
    cmb::assert_no_memory(&map(drive, length).unwrap_err());
}

/// What the daemon does for a lease, up to its answer.
fn grant(hold: &mut Hold, length: ByteLen) {
    hold.prepare(length).unwrap().zero().unwrap().release();
}

#[test]
fn nobody_maps_what_the_hold_has_and_all_is_back_after_it() {
    let drive = Drive::named("b");
    let before = drive.available();
    let part = hold(&drive, Plan { amount: Amount::AtMost(SIZE), leave: ByteLen::ZERO });
    assert_eq!((part.held(), drive.available()), (SIZE, before - SIZE.get()));
    let all = hold(&drive, Plan::default());
    assert_eq!((all.held().get(), drive.available()), (before - SIZE.get(), 0));
    assert_refused(&drive, PAGE);
    drop((part, all));
    assert_eq!(drive.available(), before);
    let left = hold(&drive, Plan { amount: Amount::All, leave: SIZE });
    assert_eq!((left.held().get(), drive.available()), (before - SIZE.get(), SIZE.get()));
}

#[test]
fn the_hold_shows_nobody_what_a_killed_owner_wrote() {
    let drive = Drive::named("b");
    let before = drive.available();
    // There is no other memory for the second owner than the first one's.
    let others = cmb::memory_of(&drive.allocator(), ByteLen::new(before - SIZE.get()));
    let mut hold = hold(&drive, Plan::default());
    assert_eq!(hold.held(), SIZE);
    for _ in 0..2 {
        grant(&mut hold, SIZE);
        let owner = Role::start("role_of_an_owner", None);
        assert!(owner.hear::<bool>(), "the memory was zeroed");
        hold.owe(SIZE);
        hold.settle().unwrap();
        assert_eq!(hold.owed(), SIZE, "the owner still has it");
        assert!(matches!(hold.prepare(PAGE), Err(PrepareError::NotEnough { owed: SIZE, .. })));
        owner.kill();
        // The kernel takes the memory of a process apart before it reports the end.
        hold.settle().unwrap();
        assert_eq!((hold.held(), hold.owed(), drive.available()), (SIZE, ByteLen::ZERO, 0));
    }
    let dirty = hold.scrub().unwrap();
    hold.scrubbed(dirty.zero()).unwrap();
    drop((hold, others));
    assert_eq!(drive.available(), before);
}

#[test]
#[ignore = "the owner in another scenario"]
fn role_of_an_owner() {
    let drive = Drive::named("b");
    assert_refused(&drive, ByteLen::new(SIZE.get() + PAGE.get()));
    let memory = map(&drive, SIZE).unwrap();
    assert_refused(&drive, PAGE);
    let mut bytes = vec![0x11; SIZE.to_usize().unwrap()];
    memory.read(0, &mut bytes).unwrap();
    let read_zeroes = bytes.iter().all(|byte| *byte == 0);
    bytes.fill(0x5a);
    memory.write(0, &bytes).unwrap();
    say(&read_zeroes);
    until_let_go();
}

#[test]
fn the_hold_gives_who_has_not_mapped_yet_clean_memory() {
    let drive = Drive::named("b");
    let mut hold = hold(&drive, Plan::default());
    grant(&mut hold, SIZE);
    let first = map(&drive, SIZE).unwrap();
    first.write(0, &vec![0x5a; SIZE.to_usize().unwrap()]).unwrap();
    grant(&mut hold, SIZE);
    drop(first);
    hold.owe(SIZE);
    hold.settle().unwrap();
    while let Some(dirty) = hold.due() {
        dirty.zero().unwrap().release();
    }
    assert_eq!(drive.available(), SIZE.get());
    let second = map(&drive, SIZE).unwrap();
    let mut bytes = vec![0x11; SIZE.to_usize().unwrap()];
    second.read(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 0));
}

#[test]
fn the_hold_joins_runs_that_lie_side_by_side() {
    let drive = Drive::named("b");
    let mut hold = hold(&drive, Plan::default());
    let all = hold.held();
    let mut leases = Vec::new();
    while hold.held() >= SIZE {
        grant(&mut hold, SIZE);
        leases.push(map(&drive, SIZE).unwrap());
    }
    for lease in leases {
        drop(lease);
        hold.owe(SIZE);
        hold.settle().unwrap();
    }
    assert_eq!(hold.held(), all);
    grant(&mut hold, all);
    map(&drive, all).unwrap();
}

#[test]
fn the_hold_of_an_unplugged_device_is_an_error_and_no_signal() {
    let drive = Drive::named("b");
    let before = drive.available();
    let mut hold = hold(&drive, Plan::default());
    let clean = hold.prepare(SIZE).unwrap().zero().unwrap();
    hold.keep(clean);
    let dirty = hold.prepare(ByteLen::new(8 << 20)).unwrap();
    let unplugged = Unplugged::new(drive.clone());
    assert!(matches!(dirty.zero(), Err(PoolError::Gone(_))));
    assert!(matches!(hold.settle(), Err(PoolError::Gone(_))));
    assert!(matches!(hold.prepare(SIZE), Err(PrepareError::Pool(PoolError::Gone(_)))));
    drop(unplugged);
    // The same address, and another device.
    assert!(matches!(hold.settle(), Err(PoolError::Gone(_))));
    drop(hold);
    until("the drive's memory is there", || (drive.available() == before).then_some(()));
}
