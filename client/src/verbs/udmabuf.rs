//! Host memory as a dma-buf: what tests dma-buf registration where no device exports one.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use peermem_proto::ByteLen;
use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use thiserror::Error;

use super::{Memory, MemoryError};
use crate::errno::Errno;

/// Why there is no dma-buf of host memory.
#[derive(Debug, Clone, Error)]
pub enum HostDmabufError {
    /// The kernel's udmabuf device can't be opened.
    #[error(
        "/dev/udmabuf, which makes dma-bufs of host memory, can't be opened; `modprobe udmabuf` as root may bring it"
    )]
    NoDevice(#[source] Errno),
    /// The kernel refused.
    #[error("no dma-buf of {len} of host memory can be made")]
    Refused {
        /// How much was asked for.
        len: ByteLen,
        /// What the kernel said.
        source: Errno,
    },
    /// It can't be mapped.
    #[error(transparent)]
    Map(#[from] MemoryError),
}

/// A dma-buf of host memory.
#[derive(Debug)]
pub struct HostDmabuf {
    memfd: OwnedFd,
    dmabuf: OwnedFd,
    len: ByteLen,
}

/// `struct udmabuf_create` in `include/uapi/linux/udmabuf.h`.
#[repr(C)]
struct Create {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

impl HostDmabuf {
    /// Makes one of `len` zeroed bytes, a multiple of the page size.
    ///
    /// # Errors
    ///
    /// [`HostDmabufError`].
    pub fn new(len: ByteLen) -> Result<Self, HostDmabufError> {
        let refused = |errno: rustix::io::Errno| HostDmabufError::Refused {
            len,
            source: Errno::new(errno.raw_os_error()),
        };
        let udmabuf = rustix::fs::open("/dev/udmabuf", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| HostDmabufError::NoDevice(Errno::new(errno.raw_os_error())))?;
        let memfd =
            rustix::fs::memfd_create("peermem-udmabuf", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)
                .map_err(refused)?;
        rustix::fs::ftruncate(&memfd, len.get()).map_err(refused)?;
        // What the driver demands: a file that shrinks would take pages from under a device.
        rustix::fs::fcntl_add_seals(&memfd, SealFlags::SHRINK).map_err(refused)?;
        let dmabuf =
            create(&udmabuf, &memfd, len).map_err(|source| HostDmabufError::Refused { len, source })?;
        Ok(Self { memfd, dmabuf, len })
    }

    /// The same bytes in this process's address space.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Map`].
    pub fn map(&self) -> Result<Memory, MemoryError> {
        Memory::shared(self.memfd.as_fd(), 0, self.len)
    }
}

impl AsFd for HostDmabuf {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dmabuf.as_fd()
    }
}

fn create(udmabuf: &OwnedFd, memfd: &OwnedFd, len: ByteLen) -> Result<OwnedFd, Errno> {
    /// `UDMABUF_CREATE`: `_IOW('u', 0x42, struct udmabuf_create)`.
    const UDMABUF_CREATE: libc::Ioctl = 0x4018_7542;
    /// `UDMABUF_FLAGS_CLOEXEC`.
    const CLOEXEC: u32 = 1;
    let memfd = memfd.as_raw_fd().cast_unsigned();
    let request = Create { memfd, flags: CLOEXEC, offset: 0, size: len.get() };
    // SAFETY: the call reads one `Create` and keeps no pointer to it.
    let fd = unsafe { libc::ioctl(udmabuf.as_raw_fd(), UDMABUF_CREATE, &raw const request) };
    if fd < 0 {
        return Err(Errno::from(&io::Error::last_os_error()));
    }
    // SAFETY: a descriptor that the kernel has just made for this call; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
