//! `peermemctl watch`

use anyhow::Result;
use peermem::{
    Client,
    proto::{Event, Lease},
};

use crate::output::{Output, memory, paths};

pub(crate) fn run(client: &Client, output: &Output) -> Result<()> {
    for event in client.watch()? {
        let event = event?;
        if output.is_json() {
            output.json(&event)?;
        } else {
            output.line(&line(&event))?;
        }
    }
    Ok(())
}

fn line(event: &Event) -> String {
    match event {
        Event::RegionAdded { region } => format!(
            "region {} appeared: {} of {} memory, {}",
            region.name,
            region.size,
            memory(region.emulated),
            region.method
        ),
        Event::RegionGone { name } => format!("region {name} is gone"),
        Event::LeaseGranted { lease } => {
            format!("{} granted for {}", named(lease), paths(&lease.paths))
        }
        Event::LeaseEnded { lease, reason } => format!("{} ended: {reason}", named(lease)),
    }
}

fn named(lease: &Lease) -> String {
    let Lease { id, region, length, emulated, owner, .. } = lease;
    format!("lease {id} ({length} of {region}, {} memory, pid {})", memory(*emulated), owner.pid)
}
