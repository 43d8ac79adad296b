//! An engine moves bytes at the addresses it was given, and only there.

use peermem::rdma::pattern;
use peermem_proto::{Direction, address::Iova};
use peermem_scenarios::{
    edu::Edu,
    faults,
    peers::CpuAccess as _,
    vfio::{FPGA, GPU},
};
use peermemd::mapper::{Place, UnmapError};

use crate::lent::{BYTES, LENGTH, Lent};

#[test]
fn the_engine_moves_bytes_from_gpu_to_fpga_and_back() {
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    let gpu_at = gpu.map(&mut edu, Direction::Bidirectional, Place::Anywhere);
    let fpga_at = fpga.map(&mut edu, Direction::Bidirectional, Place::Anywhere);

    let first = pattern::bytes(1, BYTES);
    gpu.seen.put(0, &first);
    edu.engine.copy(&gpu_at, &fpga_at, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &first), None);

    let second = pattern::bytes(2, BYTES);
    fpga.seen.put(0, &second);
    edu.engine.copy(&fpga_at, &gpu_at, LENGTH);
    assert_eq!(pattern::difference(&gpu.seen.all(), &second), None);
}

#[test]
fn after_unmap_the_same_transfer_faults_and_changes_no_byte() {
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    let gpu_at = gpu.map(&mut edu, Direction::Bidirectional, Place::Anywhere);
    let fpga_at = fpga.map(&mut edu, Direction::Bidirectional, Place::Anywhere);
    let (written, untouched) = (pattern::bytes(3, BYTES), pattern::bytes(4, BYTES));
    gpu.seen.put(0, &written);
    edu.engine.copy(&gpu_at, &fpga_at, LENGTH);
    assert_eq!(fpga.seen.all(), written);

    fpga.seen.put(0, &untouched);
    edu.initiator.unmap(&fpga_at).unwrap();
    let others = faults::within(gpu_at.iova, LENGTH);
    faults::expect(fpga_at.iova, LENGTH, || edu.engine.copy(&gpu_at, &fpga_at, LENGTH));
    assert_eq!(pattern::difference(&fpga.seen.all(), &untouched), None);
    assert_eq!(faults::within(gpu_at.iova, LENGTH), others, "the other mapping is still there");
    assert_eq!(edu.initiator.unmap(&fpga_at), Err(UnmapError::NotMapped(fpga_at)));
}

#[test]
fn a_read_only_mapping_is_not_written_and_a_write_only_one_not_read() {
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    // Not the first addresses: each is looked for in the kernel's log.
    let at = |iova| Place::At(Iova::new(iova));
    let read_only = gpu.map(&mut edu, Direction::Read, at(0x40_0000));
    let write_only = fpga.map(&mut edu, Direction::Write, at(0x50_0000));
    let (readable, writable) = (pattern::bytes(5, BYTES), pattern::bytes(6, BYTES));
    gpu.seen.put(0, &readable);
    fpga.seen.put(0, &writable);

    // First what isn't allowed: once QEMU has a translation at hand, it turns down in silence.
    for forbidden in [&read_only, &write_only] {
        faults::expect(forbidden.iova, LENGTH, || edu.engine.copy(&write_only, &read_only, LENGTH));
    }
    assert_eq!(pattern::difference(&gpu.seen.all(), &readable), None);

    edu.engine.copy(&read_only, &write_only, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &readable), None);
    edu.engine.copy(&write_only, &read_only, LENGTH);
    assert_eq!(pattern::difference(&gpu.seen.all(), &readable), None);
}
