//! The test GPU's control node, for programs that play a GPU's owner: `peermem_testgpu.h` in Rust.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

mod importer;

pub use importer::{Importer, State as ImporterState};

/// Where the node is.
pub const DEVICE: &str = "/dev/peermem_testgpu";
/// The exporter's name in `/proc/self/fdinfo`, which the daemon's config must allow.
pub const EXPORTER: &str = "peermem_testgpu";

const MAGIC: u8 = 0xB6;
const ALLOC_ZERO: u32 = 1;

/// `struct peermem_testgpu_info`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawInfo {
    vram_bytes: u64,
    free_bytes: u64,
    generation: u64,
    buffers: u32,
    memory_regions: u32,
    pci_address: [u8; 16],
    reserved: u64,
}

/// `struct peermem_testgpu_alloc`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawAlloc {
    size: u64,
    flags: u32,
    reserved: u32,
    offset: u64,
    generation: u64,
    fd: i32,
    padding: u32,
}

/// `struct peermem_testgpu_reset`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawReset {
    generation: u64,
    buffers: u32,
    memory_regions: u32,
}

// The sizes that the header gives.
const _: () =
    assert!(size_of::<RawInfo>() == 56 && size_of::<RawAlloc>() == 40 && size_of::<RawReset>() == 16);

mod ioctl {
    use super::{MAGIC, RawAlloc, RawInfo, RawReset};

    nix::ioctl_read!(
        /// `PEERMEM_TESTGPU_IOC_INFO`.
        info, MAGIC, 0, RawInfo
    );
    nix::ioctl_readwrite!(
        /// `PEERMEM_TESTGPU_IOC_ALLOC`.
        alloc, MAGIC, 1, RawAlloc
    );
    nix::ioctl_read!(
        /// `PEERMEM_TESTGPU_IOC_RESET`.
        reset, MAGIC, 2, RawReset
    );
}

/// What the GPU is and what is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The BAR's size, all of it memory.
    pub vram_bytes: u64,
    /// Bytes that no buffer holds.
    pub free_bytes: u64,
    /// One more with every reset.
    pub generation: u64,
    /// Buffers alive.
    pub buffers: u32,
    /// dma-buf memory regions alive.
    pub memory_regions: u32,
    /// The PCI address, as sysfs writes it.
    pub pci_address: String,
}

/// An open control node.
#[derive(Debug)]
pub struct TestGpu(File);

impl TestGpu {
    /// Opens it.
    ///
    /// # Errors
    /// What `open(2)` says: `ENOENT` where the test module isn't loaded.
    pub fn open() -> io::Result<Self> {
        File::options().read(true).write(true).open(DEVICE).map(Self)
    }

    /// What it is now.
    ///
    /// # Errors
    /// `ENODEV` while no display adapter is bound.
    pub fn info(&self) -> io::Result<Info> {
        let mut raw = RawInfo::default();
        // SAFETY: the node is open, and the ioctl writes one `peermem_testgpu_info`, which `RawInfo` is laid out as.
        unsafe { ioctl::info(self.0.as_raw_fd(), &raw mut raw) }?;
        let address: Vec<u8> = raw.pci_address.into_iter().take_while(|byte| *byte != 0).collect();
        Ok(Info {
            vram_bytes: raw.vram_bytes,
            free_bytes: raw.free_bytes,
            generation: raw.generation,
            buffers: raw.buffers,
            memory_regions: raw.memory_regions,
            pci_address: String::from_utf8_lossy(&address).into_owned(),
        })
    }

    /// A zeroed buffer of `size` bytes, a multiple of the page size, as a dma-buf.
    ///
    /// # Errors
    /// `EINVAL` for a wrong size, `ENOMEM` when no free range is that large.
    pub fn alloc(&self, size: u64) -> io::Result<OwnedFd> {
        let mut raw = RawAlloc { size, flags: ALLOC_ZERO, ..RawAlloc::default() };
        // SAFETY: as in `info`, for `peermem_testgpu_alloc`, which is read and written.
        unsafe { ioctl::alloc(self.0.as_raw_fd(), &raw mut raw) }?;
        // SAFETY: on success `fd` is a fresh descriptor that belongs to this call alone.
        Ok(unsafe { OwnedFd::from_raw_fd(raw.fd) })
    }

    /// Revokes every buffer, as a GPU does that has lost its memory; the new generation.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`.
    pub fn reset(&self) -> io::Result<u64> {
        let mut raw = RawReset::default();
        // SAFETY: as in `info`, for `peermem_testgpu_reset`.
        unsafe { ioctl::reset(self.0.as_raw_fd(), &raw mut raw) }?;
        Ok(raw.generation)
    }
}
