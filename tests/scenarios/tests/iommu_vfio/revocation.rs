//! What an importer of a window sees: a driver that has attached the dma-buf, as a NIC's does for a memory region.

use std::{fs, io::ErrorKind, os::fd::AsFd as _, path::Path, thread};

use nix::{
    libc::ENODEV,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use peermem::rdma::pattern;
use peermem_proto::Direction;
use peermem_scenarios::{
    command::run,
    edu::Edu,
    peers::CpuAccess as _,
    vfio::{FPGA, GPU, clear, served, snapshot},
    wait::until,
};
use peermem_testgpu::Importer;
use peermemd::{
    mapper::Place,
    provider::vfio::{RevokeError, VfioProvider},
    sys::vfio::Command,
};

use crate::lent::{BYTES, LENGTH, Lent, PAGE};

/// Attaches a window for the function that it is of, which may reach it whatever the topology.
pub(crate) fn import(fpga: &VfioProvider, dmabuf: &std::os::fd::OwnedFd) -> std::io::Result<Importer> {
    if !Path::new("/dev/peermem_testimporter").exists() {
        run("insmod /usr/lib/peermem-tests/peermem_testimporter.ko");
    }
    Importer::attach(dmabuf, &fpga.function().address().to_string())
}

fn assert_revoked<T: std::fmt::Debug>(outcome: std::io::Result<T>) {
    let error = outcome.unwrap_err();
    assert_eq!(error.raw_os_error(), Some(ENODEV), "{error}");
    assert_ne!(error.kind(), ErrorKind::NotFound, "the test importer isn't there");
}

#[test]
fn an_importer_counts_as_someone_who_has_the_window() {
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    let importer = import(&fpga, &window.dmabuf).unwrap();
    assert_eq!(importer.map().unwrap().1, LENGTH.get(), "exactly the window");
    assert!(fpga.give_back(FPGA.1, window.range));
    drop(window);
    assert!(fpga.settle().is_empty(), "the importer still reaches it");
    drop(importer);
    assert_eq!(fpga.settle().len(), 1);
}

#[test]
fn revocation_ends_every_importers_reach_for_good() {
    let mut fpga = served(FPGA);
    let [one, neighbour] = [0; 2].map(|_| fpga.carve(FPGA.1, LENGTH, PAGE).unwrap());
    let importers = [&one, &neighbour].map(|window| import(&fpga, &window.dmabuf).unwrap());
    for importer in &importers {
        importer.map().unwrap();
        assert!(importer.state().unwrap().is_mapped());
    }
    let (mut fpga, clearings) = fpga.revoke().unwrap();
    clear(&mut fpga, clearings);
    for importer in &importers {
        let state = importer.state().unwrap();
        assert_eq!((state.is_mapped(), state.invalidations), (false, 1));
        assert_revoked(importer.map());
    }
    // The descriptors are open, and worth nothing, although the device is there again.
    assert_revoked(import(&fpga, &one.dmabuf));
    let fresh = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    import(&fpga, &fresh.dmabuf).unwrap().map().unwrap();
}

#[test]
fn revocation_says_when_someone_else_keeps_the_device_open() {
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    let importer = import(&fpga, &window.dmabuf).unwrap();
    importer.map().unwrap();
    let kept = fpga.function().device().as_fd().try_clone_to_owned().unwrap();
    let refused = fpga.revoke().unwrap_err();
    assert!(matches!(refused, RevokeError::StillOpen(_)), "{refused}");
    assert!(!importer.state().unwrap().is_mapped());
    assert_revoked(importer.map());
    drop(kept);
    served(FPGA);
}

#[test]
fn clearing_the_memory_bit_revokes_only_until_it_is_set_again() {
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    let importer = import(&fpga, &window.dmabuf).unwrap();
    importer.map().unwrap();
    let memory = |on| fpga.function().device().command(Command::Memory, on).unwrap();
    memory(false);
    assert!(!importer.state().unwrap().is_mapped());
    assert_revoked(importer.map());
    memory(true);
    importer.map().unwrap();
}

#[test]
fn what_revokes_dmabufs_does_not_take_an_initiators_mapping_away() {
    // Why a provider waits for initiators before it closes its device.
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    let from = gpu.map(&mut edu, Direction::Read, Place::Anywhere);
    let to = fpga.map(&mut edu, Direction::Write, Place::Anywhere);
    let device = fpga.provider.function().device();
    device.command(Command::Memory, false).unwrap();
    device.command(Command::Memory, true).unwrap();
    let written = pattern::bytes(14, BYTES);
    gpu.seen.put(0, &written);
    edu.engine.copy(&from, &to, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &written), None);
}

#[test]
fn unplugging_waits_until_the_daemon_lets_go_and_says_so() {
    let fpga = served(FPGA);
    let address = fpga.function().address();
    let wanted = fpga.function().device().wanted_back().unwrap();
    let is_wanted = || {
        let mut polled = [PollFd::new(wanted.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::ZERO).unwrap() > 0
    };
    assert!(!is_wanted());
    let remove = format!("/sys/bus/pci/devices/{address}/remove");
    let unplugging = thread::spawn(move || fs::write(remove, "1").unwrap());
    until("the kernel wants the device back", || is_wanted().then_some(()));
    assert!(!unplugging.is_finished());
    drop(fpga);
    unplugging.join().unwrap();
    assert!(!snapshot().functions.contains_key(&address));

    // It comes back at the same place, and to the same driver.
    fs::write("/sys/bus/pci/rescan", "1").unwrap();
    until("the FPGA is back", || {
        let snapshot = snapshot();
        snapshot.functions.get(&address)?.details.is_vfio_bound().then_some(())
    });
    served(FPGA);
}
