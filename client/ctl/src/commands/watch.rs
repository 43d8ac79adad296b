//! `peermemctl watch`

use anyhow::Result;
use peermem::{
    Client,
    proto::{Event, Lease},
};

use crate::{
    output::{Output, memory, paths},
    time,
};

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
        Event::LeaseRenewed { lease } => match lease.expires_at {
            Some(at) => format!("{} renewed: it expires {}", named(lease), time::until(at)),
            None => format!("{} renewed: it doesn't expire", named(lease)),
        },
        Event::LeaseDelegated { lease, from } => {
            format!("{} passed on by uid {}, pid {}", named(lease), from.uid, from.pid)
        }
        Event::LeaseRevoked { lease } => format!("{}: {}; its client must let go", named(lease), lease.state),
        Event::LeaseOverdue { lease } => format!("{} is overdue: its client hasn't let go", named(lease)),
        Event::LeaseResumed { lease } => format!("{} resumed after a restart", named(lease)),
        Event::LeaseEnded { lease, reason } => format!("{} ended: {reason}", named(lease)),
        Event::Refused { owner, name, code: _, message } => {
            let region = name.as_ref().map(|name| format!(" for region {name}")).unwrap_or_default();
            format!("uid {}, pid {} refused{region}: {message}", owner.uid, owner.pid)
        }
        Event::RefusalsLeftOut { uid, count } => format!("uid {uid} was refused {count} more times"),
    }
}

fn named(lease: &Lease) -> String {
    let Lease { id, region, length, emulated, owner, .. } = lease;
    format!("lease {id} ({length} of {region}, {} memory, pid {})", memory(*emulated), owner.pid)
}
