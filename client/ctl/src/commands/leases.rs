//! `peermemctl leases`

use anyhow::Result;
use peermem::{Client, proto::Lease};

use crate::output::{Output, memory, paths};

const HEADER: [&str; 9] =
    ["lease", "region", "memory", "length", "offset", "initiators", "direction", "method", "owner"];

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

fn row(lease: &Lease) -> [String; 9] {
    [
        lease.id.to_string(),
        lease.region.to_string(),
        memory(lease.emulated).to_owned(),
        lease.length.to_string(),
        lease.offset.to_string(),
        paths(&lease.paths),
        lease.direction.to_string(),
        lease.method.to_string(),
        format!("uid {}, pid {}", lease.owner.uid, lease.owner.pid),
    ]
}
