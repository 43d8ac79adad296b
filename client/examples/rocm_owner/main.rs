//! Offers memory of an AMD GPU to everyone on the node: allocates it, exports it as a dma-buf, registers that with the daemon.
//!
//! `cargo run --example rocm_owner -- gpu0 64MiB`, and `peermemctl regions` lists `gpu0` until Ctrl-C. The daemon's config must
//! name the exporter: `registered.exporters = ["drm"]`, or what `exp_name` in `/proc/PID/fdinfo/FD` says.
//!
//! Written from AMD's headers of the HSA runtime and tested against a stand-in of it; never run on hardware.

use std::{io::Read as _, os::fd::AsFd as _};

use anyhow::{Context as _, Result};
use peermem::{
    Client,
    proto::{ByteLen, RegionName, Sharing},
};

mod driver;

use driver::Hsa;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let name: RegionName = arguments.next().context("give a region's name and a size")?.parse()?;
    let size: ByteLen = arguments.next().as_deref().unwrap_or("64MiB").parse()?;

    let hsa = Hsa::load().context("no AMD GPU can be used here")?;
    let gpu = hsa.first_gpu()?;
    let memory = gpu.allocate(size)?;
    let dmabuf = memory.export()?;
    let client = Client::connect().context("the memory was exported, and there is no daemon")?;
    let region = client.register(name, gpu.address(), dmabuf.as_fd(), Sharing::Everyone)?;
    println!(
        "{} of {} are region {}, until Ctrl-C or the end of input",
        size,
        gpu.address(),
        region.region().name
    );
    // The daemon has a copy, by which the memory would stay: it closes that with the region.
    drop(dmabuf);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    region.unregister()?;
    Ok(())
}
