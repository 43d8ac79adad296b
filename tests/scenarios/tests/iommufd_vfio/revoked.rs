//! iommufd knows whose memory is mapped: when the dma-buf is revoked, the mapping is gone.

use peermem::rdma::pattern;
use peermem_proto::Direction;
use peermem_scenarios::{
    edu::Edu,
    faults,
    peers::CpuAccess as _,
    vfio::{FPGA, GPU},
};
use peermemd::{mapper::Place, sys::vfio::Command};

use crate::lent::{BYTES, LENGTH, Lent};

#[test]
fn what_revokes_the_dmabuf_takes_the_mapping_away_for_good() {
    let (gpu, fpga) = (Lent::of(GPU), Lent::of(FPGA));
    let mut edu = Edu::open();
    let from = gpu.map(&mut edu, Direction::Read, Place::Anywhere);
    let to = fpga.map(&mut edu, Direction::Write, Place::Anywhere);
    let first = pattern::bytes(1, BYTES);
    gpu.seen.put(0, &first);
    edu.engine.copy(&from, &to, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &first), None);

    let memory = |on| fpga.provider.function().device().command(Command::Memory, on).unwrap();
    memory(false);
    memory(true);
    let untouched = pattern::bytes(2, BYTES);
    fpga.seen.put(0, &untouched);
    faults::expect(to.iova, LENGTH, || edu.engine.copy(&from, &to, LENGTH));
    assert_eq!(pattern::difference(&fpga.seen.all(), &untouched), None);

    // Its addresses stay taken until it is unmapped, which is all there; and the dma-buf itself is valid again.
    edu.initiator.unmap(&to).unwrap();
    let again = fpga.map(&mut edu, Direction::Write, Place::At(to.iova));
    edu.engine.copy(&from, &again, LENGTH);
    assert_eq!(pattern::difference(&fpga.seen.all(), &first), None);
}

#[test]
fn a_revoked_dmabuf_is_not_mapped() {
    let fpga = Lent::of(FPGA);
    let mut edu = Edu::open();
    let memory = |on| fpga.provider.function().device().command(Command::Memory, on).unwrap();
    memory(false);
    let refused = edu.initiator.map(fpga.mappable(), Direction::Read, Place::Anywhere).unwrap_err();
    assert_eq!(refused, peermemd::mapper::MapError::MemoryGone);
    memory(true);
    fpga.map(&mut edu, Direction::Read, Place::Anywhere);
}
