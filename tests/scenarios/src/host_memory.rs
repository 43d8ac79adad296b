//! Plain RAM in the shapes that could pass for device memory.
#![allow(unsafe_code, reason = "ioctls")]

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    libc::O_CLOEXEC,
    sys::memfd::{MFdFlags, memfd_create},
    unistd::ftruncate,
};
use peermem_proto::ByteLen;

mod ioctl {
    use super::{HeapAllocation, UdmabufCreate};

    nix::ioctl_write_ptr!(
        /// `UDMABUF_CREATE`; returns a descriptor
        udmabuf_create, b'u', 0x42, UdmabufCreate
    );
    nix::ioctl_readwrite!(
        /// `DMA_HEAP_IOCTL_ALLOC`
        heap_alloc, b'H', 0, HeapAllocation
    );
}

/// `struct udmabuf_create`, include/uapi/linux/udmabuf.h
#[repr(C)]
#[derive(Debug)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

/// `struct dma_heap_allocation_data`, include/uapi/linux/dma-heap.h
#[repr(C)]
#[derive(Debug, Default)]
struct HeapAllocation {
    len: u64,
    fd: u32,
    fd_flags: u32,
    heap_flags: u64,
}

/// A memfd of that size.
pub fn memfd(size: ByteLen) -> OwnedFd {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let memfd = memfd_create("plain RAM", flags).unwrap();
    ftruncate(&memfd, size.get().try_into().unwrap()).unwrap();
    memfd
}

/// The same as a dma-buf.
pub fn udmabuf(size: ByteLen) -> OwnedFd {
    let memfd = memfd(size);
    fcntl(&memfd, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
    let memfd_number = memfd.as_raw_fd().try_into().unwrap();
    let request = UdmabufCreate { memfd: memfd_number, flags: 1, offset: 0, size: size.get() };
    let device = File::options().read(true).write(true).open("/dev/udmabuf").unwrap();
    // SAFETY: the request reads one `struct udmabuf_create`, which `UdmabufCreate` is, through a valid reference.
    let fd = unsafe { ioctl::udmabuf_create(device.as_raw_fd(), &request) }.unwrap();
    // SAFETY: the descriptor was made by this request, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A dma-buf of the kernel's heap of ordinary pages.
pub fn heap(size: ByteLen) -> OwnedFd {
    let device = File::options().read(true).write(true).open("/dev/dma_heap/system").unwrap();
    let flags = (nix::libc::O_RDWR | O_CLOEXEC).try_into().unwrap();
    let mut request = HeapAllocation { len: size.get(), fd_flags: flags, ..HeapAllocation::default() };
    // SAFETY: the request reads and writes one `struct dma_heap_allocation_data`, which `HeapAllocation` is, through a valid reference.
    unsafe { ioctl::heap_alloc(device.as_raw_fd(), &mut request) }.unwrap();
    // SAFETY: the descriptor was made by this request, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(request.fd.try_into().unwrap()) }
}
