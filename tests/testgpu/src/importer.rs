//! The test importer's control node: `peermem_testimporter.h` in Rust.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd},
};

/// Where the node is.
const DEVICE: &str = "/dev/peermem_testimporter";
const MAGIC: u8 = 0xB7;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawAttach {
    fd: i32,
    reserved: u32,
    pci_address: [u8; 16],
}

#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawMap {
    address: u64,
    length: u64,
}

/// What has become of an attachment.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    mapped: u32,
    /// How often the exporter took a mapping back.
    pub invalidations: u32,
}

impl State {
    /// Whether the function may reach the memory.
    pub fn is_mapped(&self) -> bool {
        self.mapped != 0
    }
}

// The sizes that the header gives.
const _: () = assert!(size_of::<RawAttach>() == 24 && size_of::<RawMap>() == 16 && size_of::<State>() == 8);

mod ioctl {
    use super::{MAGIC, RawAttach, RawMap, State};

    nix::ioctl_write_ptr!(
        /// `PEERMEM_TESTIMPORTER_IOC_ATTACH`.
        attach, MAGIC, 0, RawAttach
    );
    nix::ioctl_read!(
        /// `PEERMEM_TESTIMPORTER_IOC_MAP`.
        map, MAGIC, 1, RawMap
    );
    nix::ioctl_read!(
        /// `PEERMEM_TESTIMPORTER_IOC_STATE`.
        state, MAGIC, 2, State
    );
}

/// A dma-buf, attached for a PCI function until dropped.
#[derive(Debug)]
pub struct Importer(File);

impl Importer {
    /// Attaches `dmabuf` for the function with that address.
    ///
    /// # Errors
    /// `ENODEV` when the exporter has revoked it; `ENOENT` where the test module isn't loaded.
    pub fn attach(dmabuf: &impl AsFd, pci_address: &str) -> io::Result<Self> {
        let file = File::options().read(true).write(true).open(DEVICE)?;
        let mut raw = RawAttach { fd: dmabuf.as_fd().as_raw_fd(), reserved: 0, pci_address: [0; 16] };
        let room = raw.pci_address.get_mut(..pci_address.len()).ok_or(io::ErrorKind::InvalidInput)?;
        room.copy_from_slice(pci_address.as_bytes());
        // SAFETY: the node is open, and the ioctl reads one `peermem_testimporter_attach`, which `RawAttach` is laid out as.
        unsafe { ioctl::attach(file.as_raw_fd(), &raw const raw) }?;
        Ok(Self(file))
    }

    /// Asks where the memory is for the function: the address, and how many bytes there are.
    ///
    /// # Errors
    /// `ENODEV` when the exporter has revoked it.
    pub fn map(&self) -> io::Result<(u64, u64)> {
        let mut raw = RawMap::default();
        // SAFETY: the node is open, and the ioctl writes one `peermem_testimporter_map`.
        unsafe { ioctl::map(self.0.as_raw_fd(), &raw mut raw) }?;
        Ok((raw.address, raw.length))
    }

    /// What has become of it.
    ///
    /// # Errors
    /// What `ioctl(2)` says.
    pub fn state(&self) -> io::Result<State> {
        let mut state = State::default();
        // SAFETY: the node is open, and the ioctl writes one `peermem_testimporter_state`.
        unsafe { ioctl::state(self.0.as_raw_fd(), &raw mut state) }?;
        Ok(state)
    }
}
