//! The test GPU's owner: `tests/testgpu/peermem_testgpu.h`, as far as scenarios need it.
#![allow(unsafe_code, reason = "ioctls")]

use std::{
    fs::File,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use peermem_proto::{ByteLen, Initiator, PciAddress};

mod ioctl {
    use super::{Alloc, Info};

    nix::ioctl_read!(
        /// `PEERMEM_TESTGPU_IOC_INFO`
        info, 0xb6, 0, Info
    );
    nix::ioctl_readwrite!(
        /// `PEERMEM_TESTGPU_IOC_ALLOC`
        alloc, 0xb6, 1, Alloc
    );
}

/// `struct peermem_testgpu_info`: what the GPU is and what is in use.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Info {
    /// Bytes of VRAM.
    pub vram_bytes: u64,
    /// Bytes that no buffer holds.
    pub free_bytes: u64,
    /// One more with every reset.
    pub generation: u64,
    /// Buffers alive.
    pub buffers: u32,
    /// Memory regions alive on soft-RoCE.
    pub memory_regions: u32,
    pci_address: [u8; 16],
    reserved: u64,
}

/// `struct peermem_testgpu_alloc`
#[repr(C)]
#[derive(Debug, Default)]
struct Alloc {
    size: u64,
    flags: u32,
    reserved: u32,
    offset: u64,
    generation: u64,
    fd: i32,
    padding: u32,
}

/// Its control node.
#[derive(Debug)]
pub struct Gpu(File);

impl Gpu {
    /// Opens it.
    pub fn open() -> Self {
        Self(File::options().read(true).write(true).open("/dev/peermem_testgpu").unwrap())
    }

    /// What is in use.
    pub fn info(&self) -> Info {
        let mut info = Info::default();
        // SAFETY: the request writes one `struct peermem_testgpu_info`, which `Info` is, to a valid reference.
        unsafe { ioctl::info(self.0.as_raw_fd(), &mut info) }.unwrap();
        info
    }

    /// Its PCI function.
    pub fn address(&self) -> PciAddress {
        let address = self.info().pci_address;
        std::str::from_utf8(&address).unwrap().trim_end_matches('\0').parse().unwrap()
    }

    /// The GPU as a device that does DMA.
    pub fn initiator(&self) -> Initiator {
        Initiator::Pci(self.address())
    }

    /// A buffer, exported as a dma-buf.
    pub fn allocate(&self, size: ByteLen) -> OwnedFd {
        let mut alloc = Alloc { size: size.get(), fd: -1, ..Alloc::default() };
        // SAFETY: the request reads and writes one `struct peermem_testgpu_alloc`, which `Alloc` is, through a valid reference.
        unsafe { ioctl::alloc(self.0.as_raw_fd(), &mut alloc) }.unwrap();
        // SAFETY: the descriptor was made by this request, and nobody else knows of it.
        unsafe { OwnedFd::from_raw_fd(alloc.fd) }
    }
}
