//! The test GPU's memory, registered with the daemon by its owner.

use std::os::fd::{AsFd, OwnedFd};

use peermem::{CallFailed, Client, RegisteredRegion};
use peermem_proto::{ByteLen, PciAddress, RegionName, Sharing};
use peermem_testgpu::{Info, TestGpu};

/// What scenarios call it.
pub const NAME: &str = "vram";

/// [`NAME`], as the daemon knows it.
pub fn name() -> RegionName {
    NAME.parse().unwrap()
}

/// What is in use of the GPU.
pub fn info() -> Info {
    TestGpu::open().unwrap().info().unwrap()
}

/// The GPU's PCI function.
pub fn device() -> PciAddress {
    info().pci_address.parse().unwrap()
}

/// A fresh buffer of the GPU, as a dma-buf.
pub fn allocate(size: ByteLen) -> OwnedFd {
    TestGpu::open().unwrap().alloc(size.get()).unwrap()
}

/// Offers `dmabuf` as a region called [`NAME`].
///
/// # Errors
/// The daemon's.
pub fn register(owner: &Client, dmabuf: impl AsFd, sharing: Sharing) -> Result<RegisteredRegion, CallFailed> {
    owner.register(name(), device(), dmabuf.as_fd(), sharing)
}
