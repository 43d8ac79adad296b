//! Profile `dax`: persistent memory as a device DAX, lent whole to one client at a time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use peermem::{
    rdma::{EndpointConfig, Operation, pattern},
    verbs::Memory,
};
use peermem_proto::{ByteLen, Method};
use peermem_scenarios::{
    peers::{CpuAccess as _, Peers, Side},
    vfio::snapshot,
};
use peermemd::provider::dax::{Dax, LendError};

const LENGTH: usize = 1 << 20;
/// Device DAX maps whole large pages.
const WINDOW: ByteLen = ByteLen::new(2 << 20);

fn lend_cleared(dax: &mut Dax) -> OwnedFd {
    let cleared = dax.clearing().unwrap().expect("something to clear").run().unwrap();
    dax.cleared(cleared);
    dax.lend().unwrap()
}

/// The device's end, as one large page of it.
fn end(fd: &OwnedFd, size: ByteLen) -> Memory {
    Memory::shared(fd.as_fd(), size.get() - WINDOW.get(), WINDOW).unwrap()
}

#[test]
fn what_one_client_wrote_the_next_one_does_not_read() {
    let mut dax = Dax::open(&snapshot(), Path::new("/dev"), "dax0.0".parse().unwrap()).unwrap();
    let size = dax.size();
    let fd = lend_cleared(&mut dax);
    let written = pattern::bytes(12, LENGTH);
    // Any alignment, up to the last byte.
    let at = usize::try_from(WINDOW.get()).unwrap() - LENGTH;
    end(&fd, size).put(at, &written);
    assert!(end(&fd, size).all().ends_with(&written));
    assert!(matches!(dax.lend(), Err(LendError::Lent(_))));

    drop(fd);
    assert!(dax.give_back());
    assert!(matches!(dax.lend(), Err(LendError::NotCleared(_))));
    let fd = lend_cleared(&mut dax);
    assert!(end(&fd, size).all().iter().all(|&byte| byte == 0), "an earlier client's bytes show");
}

#[test]
fn pinned_registrations_of_it_move_byte_for_byte_at_any_alignment() {
    let mut dax = Dax::open(&snapshot(), Path::new("/dev"), "dax0.0".parse().unwrap()).unwrap();
    let fd = lend_cleared(&mut dax);
    let mut peers = Peers::connect(&EndpointConfig::default());
    let memory = Arc::new(Memory::shared(fd.as_fd(), 0, WINDOW).unwrap());
    let there = Side::new(&peers.pd, memory, Method::Pinned);
    let here = Side::host(&peers.pd, WINDOW, Method::Pinned);
    for operation in [Operation::Write, Operation::Read] {
        for (near, far, length) in [(0, 0, 1), (1, 4095, 2), (513, 77, 70_001), (4097, 1, (1 << 20) + 5)] {
            peers.check(operation, (&here, near), (&there, far), length).unwrap();
        }
    }
}
