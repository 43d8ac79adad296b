//! `peermemctl regions`

use anyhow::Result;
use peermem::{
    Client,
    proto::{Region, Shape},
};

use crate::output::{Output, memory};

const HEADER: [&str; 10] =
    ["region", "memory", "provider", "device", "shape", "size", "free", "leases", "method", "revocation"];

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    let regions = client.regions()?;
    if output.is_json() {
        return output.json(&regions);
    }
    if regions.is_empty() {
        return output
            .line("no regions: this node has no known device memory (`peermemd --emulate` plays some)");
    }
    output.table(HEADER, regions.iter().map(row))
}

fn row(region: &Region) -> [String; 10] {
    [
        region.name.to_string(),
        memory(region.emulated).to_owned(),
        region.provider.to_string(),
        region.device.map_or_else(|| "-".to_owned(), |device| device.to_string()),
        match region.shape {
            Shape::Pool => "pool",
            Shape::Window => "window",
        }
        .to_owned(),
        region.size.to_string(),
        region.free.to_string(),
        region.leases.to_string(),
        region.method.to_string(),
        region.revocation.to_string(),
    ]
}
