//! Windows of a BAR: exact, fresh, and nobody's before they are somebody's.

use std::os::fd::{AsFd as _, AsRawFd as _};

use peermem::{rdma::pattern, verbs::Memory};
use peermem_proto::{ByteLen, ByteRange, Direction};
use peermem_scenarios::{
    edu::Edu,
    peers::CpuAccess as _,
    vfio::{FPGA, GPU, address_of, clear, look_at, served, snapshot, taking},
};
use peermemd::{
    mapper::Place,
    provider::vfio::{CarveError, RevokeError, VfioProvider},
};

use crate::lent::{BYTES, LENGTH, PAGE};

/// The FPGA's memory, all of it.
const WHOLE: ByteLen = ByteLen::new(16 << 20);

#[test]
fn a_dmabuf_is_exactly_the_range_and_no_cpus() {
    let mut gpu = served(GPU);
    let window = gpu.carve(GPU.1, LENGTH, PAGE).unwrap();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", window.dmabuf.as_raw_fd())).unwrap();
    assert!(info.contains("exp_name:\tvfio_pci_core"), "{info}");
    assert!(info.contains(&format!("size:\t{}", LENGTH.get())), "{info}");
    assert!(Memory::shared(window.dmabuf.as_fd(), 0, LENGTH).is_err(), "a CPU maps it");
}

#[test]
fn a_window_is_lent_again_only_when_nobody_has_it_and_then_holds_zeroes() {
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, WHOLE, PAGE).unwrap();
    let seen = look_at(fpga.function().device(), FPGA.1, window.range);
    let written = pattern::bytes(7, BYTES);
    seen.put(0, &written);

    // The client says that it is done, and still has the descriptor.
    assert!(fpga.give_back(FPGA.1, window.range));
    assert!(!fpga.give_back(FPGA.1, window.range), "it came back twice");
    assert!(fpga.settle().is_empty());
    let refused = fpga.carve(FPGA.1, PAGE, PAGE).unwrap_err();
    let CarveError::NoRoom { returned, .. } = refused else { panic!("{refused}") };
    assert_eq!(returned, WHOLE);

    // A copy counts as much as the first.
    let copy = window.dmabuf.as_fd().try_clone_to_owned().unwrap();
    drop(window);
    assert!(fpga.settle().is_empty());
    drop(copy);
    let clearings = fpga.settle();
    assert_eq!(clearings.len(), 1);
    let refused = fpga.carve(FPGA.1, PAGE, PAGE).unwrap_err();
    assert!(matches!(refused, CarveError::NoRoom { clearing, .. } if clearing == WHOLE), "{refused}");
    clear(&mut fpga, clearings);
    assert!(seen.all().iter().all(|&byte| byte == 0), "an earlier owner's bytes show");
    fpga.carve(FPGA.1, WHOLE, PAGE).unwrap();
}

#[test]
fn what_an_earlier_driver_left_is_cleared_before_the_first_lease() {
    let fpga = served(FPGA);
    let whole = ByteRange::from_start(WHOLE);
    look_at(fpga.function().device(), FPGA.1, whole).put(0, &pattern::bytes(8, BYTES));
    drop(fpga);

    let opened = VfioProvider::open(&snapshot(), address_of(FPGA.0), &[FPGA.1].into(), taking());
    let (mut fpga, clearings) = opened.unwrap();
    assert!(matches!(fpga.carve(FPGA.1, PAGE, PAGE), Err(CarveError::NoRoom { .. })));
    clear(&mut fpga, clearings);
    let window = fpga.carve(FPGA.1, WHOLE, PAGE).unwrap();
    let seen = look_at(fpga.function().device(), FPGA.1, window.range);
    assert!(seen.all().iter().all(|&byte| byte == 0));
}

#[test]
fn neighbours_have_their_own_bytes_and_the_figures_say_what_is_left() {
    let mut gpu = served(GPU);
    let size = gpu.figures(GPU.1).unwrap().free;
    let windows: Vec<_> = (0..3).map(|_| gpu.carve(GPU.1, LENGTH, LENGTH).unwrap()).collect();
    for (index, one) in windows.iter().enumerate() {
        assert!(one.range.offset().is_aligned(LENGTH));
        for other in &windows[index + 1..] {
            let apart = one.range.end() <= other.range.offset() || other.range.end() <= one.range.offset();
            assert!(apart, "{} and {}", one.range, other.range);
        }
    }
    let middle = windows[1].range;
    assert!(gpu.give_back(GPU.1, middle));
    drop(windows);
    let clearings = gpu.settle();
    assert_eq!(clearings.len(), 1, "the others are still lent");
    clear(&mut gpu, clearings);
    let figures = gpu.figures(GPU.1).unwrap();
    assert_eq!(figures.free.get(), size.get() - 2 * LENGTH.get());
    assert_eq!(figures.pieces, 2);
    assert!(figures.fragmentation() > 0.0);
    // The hole is taken before the large piece is cut.
    assert_eq!(gpu.carve(GPU.1, LENGTH, PAGE).unwrap().range, middle);
}

#[test]
fn revocation_waits_for_initiators_and_then_frees_what_clients_hold_on_to() {
    let mut fpga = served(FPGA);
    let (one, neighbour) =
        (fpga.carve(FPGA.1, LENGTH, PAGE).unwrap(), fpga.carve(FPGA.1, LENGTH, PAGE).unwrap());
    look_at(fpga.function().device(), FPGA.1, one.range).put(0, &pattern::bytes(9, BYTES));
    let mut edu = Edu::open();
    let memory = fpga.mappable(FPGA.1, one.range).unwrap();
    let mapped = edu.initiator.map(memory, Direction::Read, Place::Anywhere).unwrap();

    let refused = fpga.revoke().unwrap_err();
    let RevokeError::InUse { provider, bar } = refused else { panic!("{refused}") };
    assert_eq!(bar, FPGA.1);
    edu.initiator.unmap(&mapped).unwrap();

    let (mut fpga, clearings) = provider.revoke().unwrap();
    clear(&mut fpga, clearings);
    // Both dma-bufs are still open, and hold nothing any more.
    let all = fpga.carve(FPGA.1, WHOLE, PAGE).unwrap();
    let seen = look_at(fpga.function().device(), FPGA.1, all.range);
    assert!(seen.all().iter().all(|&byte| byte == 0));
    drop((one, neighbour));
}

#[test]
fn a_window_that_an_initiator_reaches_is_not_lent_again() {
    let mut fpga = served(FPGA);
    let window = fpga.carve(FPGA.1, LENGTH, PAGE).unwrap();
    let mut edu = Edu::open();
    let memory = fpga.mappable(FPGA.1, window.range).unwrap();
    let mapped = edu.initiator.map(memory, Direction::Write, Place::Anywhere).unwrap();
    assert!(fpga.give_back(FPGA.1, window.range));
    assert!(fpga.mappable(FPGA.1, window.range).is_none(), "nobody has a lease of it");
    drop(window);
    assert!(fpga.settle().is_empty());
    edu.initiator.unmap(&mapped).unwrap();
    assert_eq!(fpga.settle().len(), 1);
}
