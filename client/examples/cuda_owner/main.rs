//! Offers memory of an NVIDIA GPU to everyone on the node: allocates it, exports it as a dma-buf, registers that with the daemon.
//!
//! `cargo run --example cuda_owner -- gpu0 64MiB`, and `peermemctl regions` lists `gpu0` until Ctrl-C. The daemon's config must
//! name the exporter: `registered.exporters = ["nvidia"]`.
//!
//! Written from NVIDIA's documentation of the driver API and tested against a stand-in of it; never run on hardware.

use std::{io::Read as _, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use peermem::{
    Client,
    proto::{ByteLen, RegionName, Sharing},
};

mod driver;

use driver::Cuda;

/// What `cuMemAlloc` places at a page of the host's: dma-bufs begin and end at one.
const GRANULE: ByteLen = ByteLen::new(2 << 20);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name: RegionName = arguments.next().context("give a region's name and a size")?.parse()?;
    let size: ByteLen = arguments.next().as_deref().unwrap_or("64MiB").parse()?;
    anyhow::ensure!(size.is_aligned(GRANULE) && !size.is_zero(), "{size} isn't a multiple of {GRANULE}");

    let cuda = Cuda::load().context("no NVIDIA GPU can be used here")?;
    let device = cuda.device(0)?;
    let memory = device.allocate(size)?;
    let dmabuf = memory.export()?;
    let client = Client::connect().context("the memory was exported, and there is no daemon")?;
    let region = client.register(name, device.address(), dmabuf.as_fd(), Sharing::Everyone)?;
    println!(
        "{} of {} are region {}, until Ctrl-C or the end of input",
        size,
        device.address(),
        region.region().name
    );
    // The daemon has a copy, by which the memory would stay: it closes that with the region.
    drop(dmabuf);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    region.unregister()?;
    Ok(())
}
