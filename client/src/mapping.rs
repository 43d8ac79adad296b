//! Device memory in this process's address space.
//!
//! The device may write to it at any moment, so nothing here makes a reference to it: bytes are copied in and out by
//! volatile accesses, a word at a time where the alignment allows.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    ptr::{self, NonNull},
    sync::{Mutex, PoisonError},
};

use peermem_proto::{ByteLen, Method};
use rustix::{
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use thiserror::Error;

use self::dmabuf::Access;

mod direct;
mod dmabuf;

pub use direct::DirectIoError;

/// Why leased memory can't be mapped here.
#[derive(Debug, Error)]
pub enum MappingError {
    /// The length exceeds this process's address space.
    #[error("{length} don't fit in this process's address space")]
    AddressSpace {
        /// The lease's length.
        length: ByteLen,
    },
    /// The pool has less left than the lease grants.
    #[error(
        "mapping {length} of the pool failed for want of memory, although the lease grants it: a program that \
         peermemd doesn't know of maps the same `p2pmem/allocate` (see `fuser -v /sys/bus/pci/devices/*/p2pmem/allocate`)"
    )]
    PoolUsedUp {
        /// The lease's length.
        length: ByteLen,
    },
    /// The exporter has no mmap, as vfio-pci and many GPU drivers have it.
    #[error(
        "this dma-buf can't be mapped by the CPU: register it for RDMA, or reach it through its owner's runtime"
    )]
    NoCpuAccess {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel said no for another reason.
    #[error("mapping {length} at offset {offset} of the lease's descriptor failed")]
    Kernel {
        /// The lease's length.
        length: ByteLen,
        /// Where the lease starts in the descriptor.
        offset: ByteLen,
        /// The reason.
        source: io::Error,
    },
}

/// Why bytes weren't copied.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The range leaves the mapping.
    #[error("{length} bytes at offset {offset} leave the mapping, which has {size} bytes")]
    OutOfBounds {
        /// Where the copy was to start.
        offset: usize,
        /// How many bytes were to be copied.
        length: usize,
        /// The mapping's length.
        size: usize,
    },
    /// The dma-buf's exporter refused the access, for instance because the memory has been revoked.
    #[error("the dma-buf's exporter didn't open it to the CPU")]
    Sync(#[source] io::Error),
}

/// Leased memory, mapped shared, readable and writable: the direction of a lease says what its *initiator* may do, and
/// what that device reads the CPU has to have written.
///
/// It holds no lease: when the lease's revocation is advisory, it keeps working after the lease's end until it is
/// dropped. When the device is unplugged the next access raises `SIGBUS`.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
    /// For the accesses that a dma-buf wants announced.
    dmabuf: Option<OwnedFd>,
    /// CPU copies take turns, so that only devices and other processes, never another thread, race with one.
    turn: Mutex<()>,
}

// SAFETY: a mapping belongs to the process, not to a thread, and `Mapping` is its only owner.
unsafe impl Send for Mapping {}
// SAFETY: through `&self` the memory is touched only by the copies below, which take turns by `turn`.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(
        memory: BorrowedFd<'_>,
        offset: ByteLen,
        length: ByteLen,
        method: Method,
    ) -> Result<Self, MappingError> {
        let size = length
            .to_usize()
            .filter(|size| isize::try_from(*size).is_ok())
            .ok_or(MappingError::AddressSpace { length })?;
        let dmabuf = match method {
            Method::Dmabuf => Some(memory.try_clone_to_owned().map_err(|source| MappingError::Kernel {
                length,
                offset,
                source,
            })?),
            Method::OnDemand | Method::Pinned => None,
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the address is the kernel's choice (null, no MAP_FIXED), so no existing mapping is replaced.
        let start =
            unsafe { mmap(ptr::null_mut(), size, protection, MapFlags::SHARED, memory, offset.get()) }
                .map_err(|errno| explain(errno, offset, length, method))?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(MappingError::AddressSpace { length })?;
        Ok(Self { start, length: size, dmabuf, turn: Mutex::new(()) })
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Never: the daemon grants no empty lease.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The first byte, for system calls that take a buffer (`O_DIRECT` reads and writes, `ibv_reg_mr`). Valid for
    /// [`Mapping::len`] bytes as long as the mapping lives. Make no reference from it: devices write behind it.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Copies `bytes` into device memory, from `offset` on.
    ///
    /// # Errors
    /// [`CopyError`]; nothing is copied then.
    pub fn copy_from_slice(&self, offset: usize, bytes: &[u8]) -> Result<(), CopyError> {
        self.check(offset, bytes.len())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::WRITE)?;
        let (mut at, mut rest) = (offset, bytes);
        while let Some((byte, after)) = rest.split_first() {
            let to = self.start.as_ptr().wrapping_add(at);
            // The mapping starts at a page, so `at` decides the alignment.
            if let (0, Some((word, after))) = (at % 8, rest.split_first_chunk::<8>()) {
                // SAFETY:
                // * `check` has shown that the 8 bytes from `at` lie inside the mapping, which is writable;
                // * it is aligned: the start is page-aligned and `at` a multiple of 8;
                // * no reference to the memory exists, and no other thread accesses it during `_turn`.
                unsafe { to.cast::<u64>().write_volatile(u64::from_ne_bytes(*word)) };
                (at, rest) = (at + 8, after);
            } else {
                // SAFETY: as above, for one byte, which is always aligned.
                unsafe { to.write_volatile(*byte) };
                (at, rest) = (at + 1, after);
            }
        }
        access.end()
    }

    /// Copies device memory from `offset` on into `bytes`.
    ///
    /// # Errors
    /// [`CopyError`]. After [`CopyError::Sync`] `bytes` may hold anything.
    pub fn copy_to_slice(&self, offset: usize, bytes: &mut [u8]) -> Result<(), CopyError> {
        self.check(offset, bytes.len())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let access = Access::begin(self.dmabuf.as_ref().map(AsFd::as_fd), dmabuf::READ)?;
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let from = self.start.as_ptr().wrapping_add(at);
            let width = if at.is_multiple_of(8) && rest.len() >= 8 { 8 } else { 1 };
            let (now, after) = rest.split_at_mut(width);
            if let Ok(word) = <&mut [u8; 8]>::try_from(&mut *now) {
                // SAFETY: as in `copy_from_slice`; the mapping is readable.
                let value = unsafe { from.cast::<u64>().read_volatile() };
                *word = value.to_ne_bytes();
            } else {
                // SAFETY: as above, for one byte, which is always aligned.
                now.fill(unsafe { from.read_volatile() });
            }
            (at, rest) = (at + width, after);
        }
        access.end()
    }

    fn check(&self, offset: usize, length: usize) -> Result<(), CopyError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(CopyError::OutOfBounds { offset, length, size: self.length }),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY:
        // * the range is exactly what mmap gave, and is unmapped nowhere else;
        // * nothing refers to it any more: this is its only owner, and no references were made.
        // It can't fail for a range that mmap gave.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}

fn explain(errno: Errno, offset: ByteLen, length: ByteLen, method: Method) -> MappingError {
    let source = io::Error::from(errno);
    match method {
        Method::OnDemand if errno == Errno::NOMEM => MappingError::PoolUsedUp { length },
        // dma_buf_mmap_internal in drivers/dma-buf/dma-buf.c says EINVAL without an mmap operation, exporters ENODEV,
        // ENOTSUPP (524) or EOPNOTSUPP.
        Method::Dmabuf if dmabuf::says_no_mmap(errno) => MappingError::NoCpuAccess { source },
        _ => MappingError::Kernel { length, offset, source },
    }
}
