//! `peermemctl map`

use std::time::Duration;

use anyhow::{Context, Result, bail};
use peermem::{
    Client,
    proto::{
        Direction, DmaAddr, Initiator, Lease, PciAddress, RegionName,
        call::{self, DelegateReply},
    },
};

use crate::{
    cli::{Map, Memory},
    failure::Usage,
    hold::Hold,
    initiator,
    output::{Output, memory, paths},
    time,
};

pub(crate) fn run(client: &Client, args: &Map, output: &Output) -> Result<()> {
    let hold = Hold::prepare(client, args.hold)?;
    let mut request = call::Map {
        lease_secs: args.lease_secs,
        ..request(client, &args.region, &args.memory, args.direction.into())?
    };
    if args.iova.is_some() || args.drive {
        let device = owned(&request.initiators)?;
        let address = |iova| DmaAddr { initiator: Initiator::Vfio(device), iova };
        request.at.extend(args.iova.map(address));
        request.drive = args.drive.then_some(device);
    }
    let lease = client.map(&request).with_context(|| format!("can't map {}", request.region))?;
    if args.delegate {
        return delegate(hold, &lease, args, output);
    }
    print(&lease.info(), &hold.in_words(), output)?;
    if let Some(device) = lease.device().filter(|_| !output.is_json()) {
        let number = std::os::fd::AsRawFd::as_raw_fd(&device);
        output.line(&format!("device      descriptor {number} of process {}", std::process::id()))?;
    }
    hold.hold(lease, args.lease_secs)
}

/// Holds the lease until it is somebody else's.
fn delegate(hold: Hold<'_>, lease: &peermem::Lease, args: &Map, output: &Output) -> Result<()> {
    let reply = lease.delegate().context("can't delegate the lease")?;
    let DelegateReply { token, expires_in_secs: secs } = reply;
    print(&lease.info(), &format!("held until it is claimed, {secs} s at most"), output)?;
    if output.is_json() {
        output.json(&reply)?;
    } else {
        output.line(&format!("token       {token}"))?;
    }
    if hold.until_claimed(lease, args.lease_secs, Duration::from_secs(secs))? {
        return Ok(());
    }
    bail!("nobody has claimed lease {}: it is given back", lease.info().id)
}

/// Shows a lease that will be held, and for how long.
pub(super) fn print(lease: &Lease, held: &str, output: &Output) -> Result<()> {
    if output.is_json() {
        return output.json(lease);
    }
    show(lease, output)?;
    output.line(held)
}

/// The only initiator that the daemon owns.
fn owned(initiators: &[Initiator]) -> Result<PciAddress, Usage> {
    let mut owned = initiators.iter().filter_map(|initiator| match initiator {
        Initiator::Vfio(device) => Some(*device),
        _ => None,
    });
    match (owned.next(), owned.next()) {
        (Some(device), None) => Ok(device),
        _ => Err(Usage("--iova and --drive take exactly one --initiator vfio:ADDRESS".to_owned())),
    }
}

/// The call that asks for `memory` of `region`.
pub(crate) fn request(
    client: &Client,
    region: &RegionName,
    memory: &Memory,
    direction: Direction,
) -> Result<call::Map> {
    Ok(call::Map {
        region: region.clone(),
        offset: memory.offset,
        length: memory.size,
        initiators: match &memory.initiators[..] {
            [] => vec![initiator::default_for(client)?],
            named => named.to_vec(),
        },
        direction,
        lease_secs: None,
        at: Vec::new(),
        drive: None,
    })
}

fn show(lease: &Lease, output: &Output) -> Result<()> {
    let mut fields = vec![
        ("lease", lease.id.to_string()),
        ("region", format!("{} (generation {})", lease.region, lease.generation)),
        ("memory", memory(lease.emulated).to_owned()),
        ("length", lease.length.to_string()),
        ("offset", lease.offset.to_string()),
        ("initiators", paths(&lease.paths)),
        ("direction", lease.direction.to_string()),
        ("method", lease.method.to_string()),
        ("revocation", lease.revocation.to_string()),
    ];
    fields.extend(lease.expires_at.map(|at| ("expires", time::until(at))));
    output.fields(&fields)
}
