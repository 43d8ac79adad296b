//! `peermemctl status`

use anyhow::Result;
use peermem::{Client, proto::ByteLen};

use crate::output::Output;

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    let status = client.status()?;
    if output.is_json() {
        return output.json(&status);
    }
    let emulation = if status.emulation { "on: emulated regions are host memory" } else { "off" };
    output.fields(&[
        ("socket", client.socket().display().to_string()),
        ("version", status.version),
        ("protocol", status.protocol.to_string()),
        ("pid", status.pid.to_string()),
        ("up", format!("{} s", status.uptime_secs)),
        ("connections", status.connections.to_string()),
        ("regions", status.regions.to_string()),
        ("leases", format!("{} ({} out of pools)", status.leases, ByteLen::new(status.leased_bytes))),
        ("emulation", emulation.to_owned()),
        ("draining", if status.draining { "yes: it grants nothing more" } else { "no" }.to_owned()),
    ])
}
