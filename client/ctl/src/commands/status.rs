//! `peermemctl status`

use anyhow::Result;
use peermem::{
    Client,
    proto::{ByteLen, status::Status},
};

use crate::output::Output;

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    let status = client.status()?;
    if output.is_json() {
        return output.json(&status);
    }
    let emulation = if status.emulation { "on: emulated regions are host memory" } else { "off" };
    output.fields(&[
        ("socket", client.socket().display().to_string()),
        ("version", status.version.clone()),
        ("protocol", status.protocol.to_string()),
        ("pid", status.pid.to_string()),
        ("up", format!("{} s", status.uptime_secs)),
        ("connections", status.connections.to_string()),
        ("regions", status.regions.to_string()),
        ("leases", leases(&status)),
        ("emulation", emulation.to_owned()),
        ("draining", if status.draining { "yes: it grants nothing more" } else { "no" }.to_owned()),
        ("config", config(&status)),
    ])
}

fn config(status: &Status) -> String {
    match &status.config_refused {
        None => "counts as it was last read".to_owned(),
        Some(why) => format!("the one before the last reading still counts: {why}"),
    }
}

fn leases(status: &Status) -> String {
    let mut text = format!("{} ({} out of pools)", status.leases, ByteLen::new(status.leased_bytes));
    if status.waiting > 0 {
        text.push_str(&format!(", {} waiting for their clients after a restart", status.waiting));
    }
    if status.overdue > 0 {
        text.push_str(&format!(", {} overdue: see `peermemctl leases --overdue`", status.overdue));
    }
    text
}
