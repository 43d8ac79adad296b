//! A DMA address space: what devices emit, and what their IOMMU makes of it.

use std::os::fd::BorrowedFd;

use peermem_proto::{ByteLen, ByteRange, Direction, address::Iova};
use rustix::io::Errno;
use thiserror::Error;

use super::{
    container::Container,
    iommu_info::{IommuInfo, IommuInfoError},
    iommufd::Addresses,
};
use crate::sys::{DeviceMemory, NotInside};

/// Why a mapping wasn't made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MapDmaError {
    /// The range isn't in the memory.
    #[error(transparent)]
    NotInside(#[from] NotInside),
    /// `EEXIST`: overlaps a mapping. `EINVAL`: not aligned, or beyond the IOMMU's addresses. `ENOSPC`: more mappings than
    /// vfio_iommu_type1's `dma_entry_limit`. `EFAULT`: the memory's function doesn't decode memory.
    #[error("VFIO_IOMMU_MAP_DMA failed")]
    Container(#[source] Errno),
    /// `EADDRINUSE`: overlaps a mapping. `EINVAL`: not aligned, beyond the IOMMU's addresses, or a kernel that doesn't map dma-bufs.
    /// `ENODEV`: the dma-buf is revoked.
    #[error("IOMMU_IOAS_MAP_FILE failed: it maps dma-bufs of vfio-pci on Linux 7.0 or newer")]
    Iommufd(#[source] Errno),
}

/// A range of a BAR, in the two shapes in which a kernel takes it.
#[derive(Debug, Clone, Copy)]
pub struct Exported<'a> {
    /// The BAR, mapped by this process.
    pub memory: &'a DeviceMemory,
    /// Which part of it.
    pub range: ByteRange,
    /// A dma-buf of exactly that part.
    pub dmabuf: BorrowedFd<'a>,
}

/// An address space of a function or a group: VFIO's older interface, or the IOMMU's own.
#[derive(Debug, Clone, Copy)]
pub enum Domain<'a> {
    /// A container.
    Container(Container<'a>),
    /// An I/O address space of an iommufd.
    Iommufd(Addresses<'a>),
}

impl Domain<'_> {
    /// What the IOMMU can translate here.
    ///
    /// # Errors
    /// [`IommuInfoError`].
    pub fn info(self) -> Result<IommuInfo, IommuInfoError> {
        match self {
            Self::Container(container) => container.info(),
            Self::Iommufd(addresses) => addresses.info(),
        }
    }

    /// Lets the devices reach memory at `iova`.
    ///
    /// A container looks up where the memory is now and doesn't follow it: unmap before the memory's function is reset or closed,
    /// or the devices reach whatever is there then. iommufd takes the mapping away for good when the dma-buf is revoked; its
    /// addresses stay taken until it is unmapped.
    ///
    /// # Errors
    /// [`MapDmaError`].
    pub fn map(self, iova: Iova, memory: Exported<'_>, direction: Direction) -> Result<(), MapDmaError> {
        let Exported { memory, range, dmabuf } = memory;
        match self {
            Self::Container(container) => container.map(iova, memory, range, direction),
            Self::Iommufd(addresses) => {
                addresses.map(iova, dmabuf, range.length(), direction).map_err(MapDmaError::Iommufd)
            }
        }
    }

    /// Takes a mapping away. Returns how many bytes of it there were: a mapping is taken as a whole, or not at all.
    ///
    /// # Errors
    /// What the kernel says; a container's `EINVAL` for a range that would cut a mapping, which iommufd passes over.
    pub fn unmap(self, iova: Iova, length: ByteLen) -> Result<ByteLen, Errno> {
        match self {
            Self::Container(container) => container.unmap(iova, length),
            Self::Iommufd(addresses) => addresses.unmap(iova, length),
        }
    }
}

/// What a device may do with mapped memory, in an interface's own bits.
pub(super) const fn flags(direction: Direction, read: u32, write: u32) -> u32 {
    match direction {
        Direction::Read => read,
        Direction::Write => write,
        Direction::Bidirectional => read | write,
    }
}
