//! `peermemctl regions`

use anyhow::Result;
use peermem::{
    Client,
    proto::{ByteLen, Region, Shape},
};

use crate::output::{NOTHING, Output, memory};

const HEADER: [&str; 11] = [
    "region",
    "memory",
    "provider",
    "device",
    "shape",
    "size",
    "free",
    "missing",
    "leases",
    "method",
    "revocation",
];

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    let regions = client.regions()?;
    if output.is_json() {
        return output.json(&regions);
    }
    if regions.is_empty() {
        return output
            .line("no regions: this node has no known device memory (`peermemd --emulate` plays some)");
    }
    output.sparse_table(HEADER, &regions.iter().map(row).collect::<Vec<_>>())
}

fn row(region: &Region) -> [String; 11] {
    [
        region.name.to_string(),
        memory(region.emulated).to_owned(),
        region.provider.to_string(),
        region.device.map_or_else(|| NOTHING.to_owned(), |device| device.to_string()),
        match region.shape {
            Shape::Pool => "pool",
            Shape::Window => "window",
        }
        .to_owned(),
        region.size.to_string(),
        region.free.to_string(),
        if region.missing == ByteLen::ZERO { NOTHING.to_owned() } else { region.missing.to_string() },
        region.leases.to_string(),
        region.method.to_string(),
        region.revocation.to_string(),
    ]
}
