//! The test GPU's memory as a region, for as long as this is held.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use peermem::{Client, RegisteredRegion, proto::RegionName, proto::Sharing};
use peermem_testgpu::TestGpu;

/// Offers `size` bytes of it to everyone.
pub(crate) fn register(client: &Client, size: u64) -> Result<RegisteredRegion> {
    let gpu = TestGpu::open().context("can't open the test GPU")?;
    let name: RegionName = "bench-vram".parse()?;
    let buffer = gpu.alloc(size).context("can't allocate GPU memory")?;
    Ok(client.register(name, gpu.info()?.pci_address.parse()?, buffer.as_fd(), Sharing::Everyone)?)
}
