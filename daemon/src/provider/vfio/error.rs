//! What can go wrong with a BAR.

use std::io;

use peermem_proto::{ByteLen, PciAddress};
use rustix::io::Errno;
use thiserror::Error;

use super::VfioProvider;
use crate::{
    ranges::NoPlace,
    sys::vfio::{BarIndex, ExportError},
    vfio::OpenError,
};

/// Why a function's BARs aren't served.
#[derive(Debug, Error)]
pub enum VfioError {
    /// The function can't be taken.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It has no such memory BAR.
    #[error("{address} has no memory at {bar}: it has {}", .memory.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    NoSuchBar {
        /// The function.
        address: PciAddress,
        /// The BAR.
        bar: BarIndex,
        /// The memory BARs that it has.
        memory: Vec<BarIndex>,
    },
    /// Reading or writing there does things.
    #[error(
        "{bar} of {address} holds registers: {why}. Serving it as memory would let every client work the device"
    )]
    Registers {
        /// The function.
        address: PciAddress,
        /// The BAR.
        bar: BarIndex,
        /// How one sees that.
        why: &'static str,
    },
    /// It isn't made of whole pages that the CPU can map.
    #[error("{bar} of {address} can't be mapped: it has {size}")]
    NotMappable {
        /// The function.
        address: PciAddress,
        /// The BAR.
        bar: BarIndex,
        /// Its size.
        size: ByteLen,
    },
    /// No dma-bufs from this kernel.
    #[error("{address}: {}", ExportError::NotSupported)]
    NoExport {
        /// The function.
        address: PciAddress,
    },
    /// Windows that an earlier process is said to have lent can't have been.
    #[error("what is remembered of {bar} of {address} is wrong")]
    Remembered {
        /// The function.
        address: PciAddress,
        /// The BAR.
        bar: BarIndex,
        /// What is wrong.
        #[source]
        source: NoPlace,
    },
    /// Another call failed.
    #[error("{operation} failed for {address}")]
    Io {
        /// The function.
        address: PciAddress,
        /// What was tried.
        operation: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// Why there is no window.
#[derive(Debug, Error)]
pub enum CarveError {
    /// This BAR isn't served.
    #[error("{0} isn't served")]
    NotServed(BarIndex),
    /// No room, or none yet.
    #[error("{source}; {returned} wait until their last users let go of them, {clearing} are being zeroed")]
    NoRoom {
        /// What is free.
        source: NoPlace,
        /// The bytes of windows that came back while someone still has their dma-bufs.
        returned: ByteLen,
        /// The bytes that are being zeroed.
        clearing: ByteLen,
    },
    /// There is room, and the kernel makes no dma-buf of it.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// There is a dma-buf, and no descriptor for the daemon's own copy of it.
    #[error("the dma-buf's descriptor can't be duplicated")]
    Descriptor(#[source] io::Error),
}

/// Why nothing was revoked.
#[derive(Debug, Error)]
pub enum RevokeError {
    /// The memory is mapped for initiators or is being zeroed. Closing the device now would leave it open, and IOMMUs
    /// pointing at it.
    #[error("{bar} is still mapped for an initiator, or being zeroed: unmap it first")]
    InUse {
        /// The BAR.
        bar: BarIndex,
        /// The provider, unchanged.
        provider: Box<VfioProvider>,
    },
    /// All is revoked, and could come back to life: someone else has a descriptor of the device or a mapping of a BAR. The
    /// function is let go with its memory switched off.
    #[error(
        "{0} is still open elsewhere: its dma-bufs are revoked only as long as its memory stays switched off"
    )]
    StillOpen(PciAddress),
    /// All is revoked, and the function didn't come back: it is lost.
    #[error("every dma-buf is revoked, and the function is lost")]
    Lost(#[from] VfioError),
}

impl VfioError {
    pub(super) fn io(address: PciAddress, operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { address, operation, source }
    }

    pub(super) fn errno(address: PciAddress, operation: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Io { address, operation, source: errno.into() }
    }
}
