//! What the IOMMU turned down, as the kernel's log has it.

use peermem_proto::{ByteLen, address::Iova};

use crate::{command::run, wait::until};

/// How many lines tell of accesses to these addresses.
pub fn within(iova: Iova, length: ByteLen) -> usize {
    let range = iova.get()..iova.get() + length.get();
    run("dmesg")
        .lines()
        .filter(|line| line.contains("DMAR: [DMA "))
        .filter_map(|line| line.split_once("fault addr 0x")?.1.split_whitespace().next())
        .filter(|address| range.contains(&u64::from_str_radix(address, 16).unwrap()))
        .count()
}

/// Does an access that isn't allowed until the kernel tells of it. It keeps silent about most: ten lines in five seconds
/// (`dmar_fault`, drivers/iommu/intel/dmar.c), whoever's they are.
pub fn expect(iova: Iova, length: ByteLen, mut access: impl FnMut()) {
    let before = within(iova, length);
    until("the kernel tells of the fault", || {
        access();
        (within(iova, length) > before).then_some(())
    });
}
