//! `peermemctl leases`

use anyhow::Result;
use peermem::{Client, proto::Lease};

use crate::output::{Output, memory};

const HEADER: [&str; 10] =
    ["lease", "region", "memory", "length", "offset", "initiator", "direction", "method", "route", "owner"];

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    let leases = client.leases()?;
    if output.is_json() {
        return output.json(&leases);
    }
    if leases.is_empty() {
        return output.line("no leases");
    }
    output.table(HEADER, leases.iter().map(row))
}

fn row(lease: &Lease) -> [String; 10] {
    [
        lease.id.to_string(),
        lease.region.to_string(),
        memory(lease.emulated).to_owned(),
        lease.length.to_string(),
        lease.offset.to_string(),
        lease.initiator.to_string(),
        lease.direction.to_string(),
        lease.method.to_string(),
        lease.route.to_string(),
        format!("uid {}, pid {}", lease.owner.uid, lease.owner.pid),
    ]
}
