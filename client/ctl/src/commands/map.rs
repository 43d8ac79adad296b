//! `peermemctl map`

use std::time::Duration;

use anyhow::{Context, Result};
use peermem::{
    Client,
    proto::{Direction, Lease, RegionName, call},
};

use crate::{
    cli::{Map, Memory},
    hold::{self, Signals},
    initiator,
    output::{Output, memory, paths},
};

pub(crate) fn run(client: &Client, args: &Map, output: &Output) -> Result<()> {
    // Before the lease exists, so that no signal falls between the grant and the wait.
    let signals = Signals::block()?;
    let watch = client.watch()?;
    let request = request(client, &args.region, &args.memory, args.direction.into())?;
    let lease = client.map(&request).with_context(|| format!("can't map {}", request.region))?;
    if output.is_json() {
        output.json(lease.info())?;
    } else {
        show(lease.info(), output)?;
        match args.hold_secs {
            Some(secs) => output.line(&format!("held for {secs} s"))?,
            None => output.line("held until Ctrl-C")?,
        }
    }
    let ended = hold::until_end(&signals, watch, lease.info().id, args.hold_secs.map(Duration::from_secs));
    // Whatever ended the wait, a lease that the daemon has taken away can't be given back.
    if ended.is_ok() {
        lease.unmap().context("can't give the lease back")?;
    }
    ended
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
    })
}

fn show(lease: &Lease, output: &Output) -> Result<()> {
    output.fields(&[
        ("lease", lease.id.to_string()),
        ("region", format!("{} (generation {})", lease.region, lease.generation)),
        ("memory", memory(lease.emulated).to_owned()),
        ("length", lease.length.to_string()),
        ("offset", lease.offset.to_string()),
        ("initiators", paths(&lease.paths)),
        ("direction", lease.direction.to_string()),
        ("method", lease.method.to_string()),
        ("revocation", lease.revocation.to_string()),
    ])
}
