//! Each *no* of the mapper by its own name.

use std::io;

use peermem_proto::{BusAddr, ByteLen, Direction, DmaAddr, PciAddress, address::Iova};
use rustix::io::Errno;
use thiserror::Error;

use crate::{
    sys::vfio::{IommuInfoError, MapDmaError},
    vfio::{Members, OpenError},
};

/// Why a function doesn't become an initiator.
#[derive(Debug, Error)]
pub enum InitiatorError {
    /// The function can't be taken.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is mapped for it, the others reach too.
    #[error(
        "{address} shares its IOMMU group with {others}: what is mapped for it, they reach too, since the IOMMU can't tell \
         them apart"
    )]
    SharedGroup {
        /// The function.
        address: PciAddress,
        /// The others.
        others: Members,
    },
    /// Its address space isn't described.
    #[error("the addresses that {address} can emit aren't known")]
    Unknown {
        /// The function.
        address: PciAddress,
        /// Why.
        #[source]
        source: IommuInfoError,
    },
    /// What nobody remembers stays mapped.
    #[error("what is mapped for {address} can't be unmapped")]
    NotSwept {
        /// The function.
        address: PciAddress,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
    /// Its configuration space can't be read or written.
    #[error("the Command register of {address} can't be read or written")]
    Config {
        /// The function.
        address: PciAddress,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// What an earlier process is said to have mapped can't have been.
    #[error("what is remembered of {address}'s mappings is wrong")]
    Remembered {
        /// The function.
        address: PciAddress,
        /// What is wrong.
        #[source]
        source: MapError,
    },
}

/// Why memory isn't mapped for an initiator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MapError {
    /// Offset, length or address cut a page.
    #[error("{what} {value:#x} isn't a multiple of the IOMMU's smallest page, {page}")]
    NotAligned {
        /// `offset`, `length` or `IOVA`.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The page.
        page: ByteLen,
    },
    /// Something is mapped there.
    #[error("{length} at IOVA {iova} overlap what is mapped at {taken}")]
    Overlap {
        /// The address that was asked for.
        iova: Iova,
        /// The length.
        length: ByteLen,
        /// Where the mapping in the way begins.
        taken: Iova,
    },
    /// The address can't be translated, or the device can't emit it.
    #[error(
        "{length} at IOVA {iova} aren't among the addresses that the IOMMU translates for this device, less those that are \
         reserved (interrupts) and those that exceed its address bits"
    )]
    Unreachable {
        /// The address that was asked for.
        iova: Iova,
        /// The length.
        length: ByteLen,
    },
    /// No free addresses.
    #[error(
        "the initiator's addresses are used up: no {length} in one piece, the largest free piece has {largest}"
    )]
    AddressesUsedUp {
        /// The length.
        length: ByteLen,
        /// The largest piece.
        largest: ByteLen,
    },
    /// No free mappings.
    #[error("the initiator has as many mappings as the kernel allows: vfio_iommu_type1's dma_entry_limit")]
    MappingsUsedUp,
    /// Nothing translates, and the memory isn't where it was asked for.
    #[error("no IOMMU translates for it: it reaches the memory at {at}, not at {asked}")]
    Untranslated {
        /// The address that was asked for.
        asked: Iova,
        /// The only one.
        at: BusAddr,
    },
    /// Nothing can keep the initiator from the other direction.
    #[error("no IOMMU restricts what it does: it can't be kept to `{direction}`. Ask for both directions")]
    Unrestricted {
        /// What was asked for.
        direction: Direction,
    },
    /// Nothing translates, and where the memory is isn't known.
    #[error(
        "no IOMMU translates for it, and where the memory is on the bus isn't known: no bridge above it has a window that tells"
    )]
    NoBusAddress,
    /// The memory's device doesn't answer at its BARs: it was reset, or is gone.
    #[error("the memory can't be looked up: its device doesn't decode memory, or is gone")]
    MemoryGone,
    /// The kernel said no for another reason.
    #[error("the kernel doesn't map {length} at IOVA {iova}")]
    Kernel {
        /// The address.
        iova: Iova,
        /// The length.
        length: ByteLen,
        /// Its answer.
        #[source]
        source: MapDmaError,
    },
}

/// Why a mapping stays.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnmapError {
    /// The address isn't this initiator's.
    #[error("{address} isn't an address of {initiator}")]
    OtherInitiator {
        /// The address.
        address: DmaAddr,
        /// The initiator that was asked.
        initiator: PciAddress,
    },
    /// Nothing is mapped that begins there.
    #[error("nothing is mapped at {0}")]
    NotMapped(DmaAddr),
    /// The kernel has taken away less than there was; the address isn't used again.
    #[error("the kernel unmapped {unmapped} of {length} at {address}: the address stays taken")]
    Partly {
        /// The address.
        address: DmaAddr,
        /// The mapping's length.
        length: ByteLen,
        /// What is gone.
        unmapped: ByteLen,
    },
    /// The kernel said no; the address isn't used again.
    #[error("the kernel doesn't unmap {address}: the address stays taken")]
    Kernel {
        /// The address.
        address: DmaAddr,
        /// Its answer.
        #[source]
        source: Errno,
    },
}
