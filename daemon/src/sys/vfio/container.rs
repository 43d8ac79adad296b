//! A container with a type 1 IOMMU: the address space of the group that is in it.

use std::os::fd::BorrowedFd;

use peermem_proto::{ByteLen, ByteRange, Direction, address::Iova};
use rustix::io::Errno;
use vfio_bindings::bindings::vfio as abi;

use super::{
    call::{self, Number, size},
    domain::{MapDmaError, flags},
    iommu_info::{IommuInfo, IommuInfoError},
};
use crate::sys::DeviceMemory;

/// More than the list of addresses needs by far: dozens of ranges.
const INFO_BYTES: u32 = 4096;
const INFO_WORDS: usize = INFO_BYTES as usize / size_of::<u64>();

/// The container.
#[derive(Debug, Clone, Copy)]
pub struct Container<'a>(pub(super) BorrowedFd<'a>);

impl Container<'_> {
    /// What the IOMMU can translate for this group.
    pub(super) fn info(self) -> Result<IommuInfo, IommuInfoError> {
        let mut words = [0_u64; INFO_WORDS];
        let head = words.as_mut_ptr().cast::<abi::vfio_iommu_type1_info>();
        // SAFETY: the structure is smaller than `words`, and its alignment that of a `u64`.
        unsafe { (*head).argsz = INFO_BYTES };
        // SAFETY: the call writes at most `argsz` bytes from the structure's start on, which is the size of `words`.
        unsafe { call::pointer(self.0, Number::IommuGetInfo, head) }?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        IommuInfo::parse(&bytes)
    }

    /// Lets the group's devices reach `range` of `memory` at `iova`.
    pub(super) fn map(
        self,
        iova: Iova,
        memory: &DeviceMemory,
        range: ByteRange,
        direction: Direction,
    ) -> Result<(), MapDmaError> {
        let mut map = abi::vfio_iommu_type1_dma_map {
            argsz: size::<abi::vfio_iommu_type1_dma_map>(),
            flags: flags(direction, abi::VFIO_DMA_MAP_FLAG_READ, abi::VFIO_DMA_MAP_FLAG_WRITE),
            vaddr: memory.address(range)?,
            iova: iova.get(),
            size: range.length().get(),
        };
        // SAFETY:
        // * the call takes a `vfio_iommu_type1_dma_map`, and this is a whole one;
        // * `vaddr` to `vaddr + size` lies inside a mapping that exists, as `address` has checked;
        // * what devices will write there is never behind a reference: `DeviceMemory` has none.
        unsafe { call::pointer(self.0, Number::IommuMapDma, &raw mut map) }
            .map_err(MapDmaError::Container)?;
        Ok(())
    }

    /// Takes mappings away that lie in a range as a whole; returns how many bytes there were.
    pub(super) fn unmap(self, iova: Iova, length: ByteLen) -> Result<ByteLen, Errno> {
        let mut unmap = abi::vfio_iommu_type1_dma_unmap {
            argsz: size::<abi::vfio_iommu_type1_dma_unmap>(),
            iova: iova.get(),
            size: length.get(),
            ..Default::default()
        };
        // SAFETY: the call takes a `vfio_iommu_type1_dma_unmap`, this is a whole one, and without flags nothing follows it.
        unsafe { call::pointer(self.0, Number::IommuUnmapDma, &raw mut unmap) }?;
        Ok(ByteLen::new(unmap.size))
    }
}
