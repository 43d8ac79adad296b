//! `peermemctl leases`

use anyhow::Result;
use peermem::{
    Client,
    proto::{Lease, LeaseState},
};

use crate::{
    cli::Leases,
    output::{NOTHING, Output, memory, paths},
    time,
};

const HEADER: [&str; 11] = [
    "lease",
    "region",
    "memory",
    "length",
    "offset",
    "initiators",
    "direction",
    "method",
    "owner",
    "state",
    "expires",
];

pub(crate) fn run(client: &Client, args: &Leases, output: &Output) -> Result<()> {
    let uid = nix::unistd::geteuid().as_raw();
    let leases = client.leases()?.into_iter().filter(|lease| {
        (!args.overdue || lease.state.is_overdue())
            && args.region.as_ref().is_none_or(|region| *region == lease.region)
            && (!args.mine || lease.owner.uid == uid)
    });
    let leases: Vec<Lease> = leases.collect();
    if output.is_json() {
        return output.json(&leases);
    }
    if leases.is_empty() {
        return output.line(&match &args.region {
            Some(name) if client.regions()?.iter().all(|region| region.name != *name) => {
                format!(
                    "no leases: there is no region {name}. `peermemctl regions` lists those that there are"
                )
            }
            _ => "no leases".to_owned(),
        });
    }
    output.sparse_table(HEADER, &leases.iter().map(row).collect::<Vec<_>>())
}

fn row(lease: &Lease) -> [String; 11] {
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
        state(lease),
        lease.expires_at.map_or_else(|| NOTHING.to_owned(), time::until),
    ]
}

/// What is out of the ordinary.
fn state(lease: &Lease) -> String {
    match lease.state {
        LeaseState::Active {} if lease.waiting => "waiting".to_owned(),
        LeaseState::Active {} => NOTHING.to_owned(),
        revoked @ LeaseState::Revoked { .. } => revoked.to_string(),
    }
}
