//! The short form: what the daemon should know of each RDMA device.

use anyhow::{Context, Result};
use peermem::{Client, rdma::probe, verbs::Device};

use crate::{initiator::rdma_devices, output::Output};

/// Tests the first port of every RDMA device and reports what was found. A device that can't be tested, such as one whose
/// port is down, is named and left out.
pub(super) fn report_devices(client: &Client, output: &Output) -> Result<()> {
    for name in rdma_devices() {
        let tested = Device::by_name(name.as_str())
            .context("can't find it")
            .and_then(|device| Ok(probe::test(&device.open()?, 1)?.finding()));
        match tested {
            Ok(found) => {
                if !output.is_json() {
                    let dmabuf =
                        if found.dmabuf { "dma-bufs can be registered" } else { "no dma-buf registration" };
                    output.line(&format!("{name}: {}; {dmabuf}", found.on_demand))?;
                }
                client.report_device(name, found)?;
            }
            Err(error) => eprintln!("peermemctl: {name} not tested: {error:#}"),
        }
    }
    Ok(())
}
