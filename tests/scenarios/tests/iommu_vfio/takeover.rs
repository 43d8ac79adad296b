//! What is mapped outlives the process that mapped it, as long as a copy of the container's descriptor does.
#![allow(unsafe_code, reason = "a descriptor that a parent left open, by its number")]

use std::{
    env,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    process::Command,
};

use peermem::rdma::pattern;
use peermem_proto::{ByteLen, Direction, address::Iova};
use peermem_scenarios::{
    command::succeed,
    edu::{BITS, Edu},
    peers::CpuAccess as _,
    vfio::{FPGA, GPU, clear, look_at, served, snapshot, taking},
};
use peermemd::{
    mapper::{Initiator, Place},
    provider::vfio::{VfioProvider, Window},
    sys::vfio::Group,
    vfio::{Descriptors, Function, Space},
};
use rustix::io::FdFlags;

use crate::{
    lent::{BYTES, LENGTH, Lent, PAGE},
    revocation::import,
};

const GROUP: &str = "PEERMEM_TEST_GROUP";
const CONTAINER: &str = "PEERMEM_TEST_CONTAINER";
const AT: Iova = Iova::new(0x60_0000);

/// Runs in a process of its own, which is given the two descriptors.
#[test]
#[ignore = "run by the test below"]
fn another_process_takes_the_domain_over_and_unmaps() {
    let inherited = |name| {
        let number = env::var(name).unwrap().parse().unwrap();
        // SAFETY: the parent left this descriptor open for this process, where nothing else knows of it.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    let group = Group::take_over(inherited(GROUP), inherited(CONTAINER)).unwrap();
    let domain = group.domain().expect("a group with an IOMMU");
    assert_eq!(domain.info().unwrap().page(), ByteLen::new(4096));
    assert_eq!(domain.unmap(AT, LENGTH).unwrap(), LENGTH);
}

#[test]
fn a_mapping_can_be_taken_away_by_another_process_than_made_it() {
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    let from = gpu.map(&mut edu, Direction::Read, Place::Anywhere);
    let to = fpga.map(&mut edu, Direction::Write, Place::At(AT));
    let written = pattern::bytes(10, BYTES);
    gpu.seen.put(0, &written);
    edu.engine.copy(&from, &to, LENGTH);
    assert_eq!(fpga.seen.all(), written);

    let inherit = |fd: &dyn AsFd| {
        let copy = fd.as_fd().try_clone_to_owned().unwrap();
        rustix::io::fcntl_setfd(&copy, FdFlags::empty()).unwrap();
        copy
    };
    let Space::Container { group, container } = edu.initiator.function().descriptors().space else {
        panic!("it wasn't taken by its group")
    };
    let (group, container) = (inherit(&group), inherit(&container));
    succeed(
        Command::new(env::current_exe().unwrap())
            .args(["--exact", "--ignored", "takeover::another_process_takes_the_domain_over_and_unmaps"])
            .env(GROUP, group.as_raw_fd().to_string())
            .env(CONTAINER, container.as_raw_fd().to_string()),
    );

    let untouched = pattern::bytes(11, BYTES);
    fpga.seen.put(0, &untouched);
    edu.engine.copy(&from, &to, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &untouched), None);
}

/// Copies of a function's descriptors, as systemd's store keeps them.
fn stored(function: &Function) -> Descriptors<OwnedFd> {
    let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let Descriptors { device, space } = function.descriptors();
    let space = match space {
        Space::Container { group, container } => {
            Space::Container { group: copy(group), container: copy(container) }
        }
        Space::Iommufd { fd, number } => Space::Iommufd { fd: copy(fd), number },
    };
    Descriptors { device: copy(device), space }
}

#[test]
fn a_restart_ends_no_mapping_and_forgets_no_window() {
    let gpu = Lent::of(GPU);
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    let importer = import(&fpga, &window.dmabuf).unwrap();
    importer.map().unwrap();
    let mut edu = Edu::open();
    let from = gpu.map(&mut edu, Direction::Read, Place::Anywhere);
    let memory = fpga.mappable(FPGA.1, window.range).unwrap();
    let to = edu.initiator.map(memory, Direction::Write, Place::Anywhere).unwrap();

    // All that the daemon's process has goes, but what is in the store.
    let (kept_fpga, kept_edu) = (stored(fpga.function()), stored(edu.initiator.function()));
    let (fpga_address, edu_address) = (fpga.function().address(), edu.address());
    let kept_window = Window { range: window.range, dmabuf: window.dmabuf.try_clone().unwrap() };
    let Edu { engine, initiator } = edu;
    drop((fpga, initiator));

    let snapshot = snapshot();
    let function = Function::take_over(&snapshot, fpga_address, kept_fpga, taking().without_iommu).unwrap();
    let (mut fpga, clearings) = VfioProvider::serve(function, [(FPGA.1, vec![kept_window])].into()).unwrap();
    let function = Function::take_over(&snapshot, edu_address, kept_edu, taking().without_iommu).unwrap();
    let mapped = [(from.iova, gpu.mappable()), (to.iova, fpga.mappable(FPGA.1, window.range).unwrap())];
    let initiator = Initiator::take_over(function, BITS, mapped).unwrap();
    let mut edu = Edu { engine, initiator };

    // The rest of the BAR is cleared, and the client's bytes aren't.
    let seen = look_at(fpga.function().device(), FPGA.1, window.range);
    let written = pattern::bytes(13, BYTES);
    gpu.seen.put(0, &written);
    edu.engine.copy(&from, &to, LENGTH);
    clear(&mut fpga, clearings);
    assert_eq!(pattern::difference(&seen.all(), &written), None);
    assert!(importer.state().unwrap().is_mapped(), "the device was reset");

    edu.initiator.unmap(&to).unwrap();
    assert!(fpga.give_back(FPGA.1, window.range));
    assert!(fpga.settle().is_empty());
    drop((importer, window));
    assert_eq!(fpga.settle().len(), 1);
}
