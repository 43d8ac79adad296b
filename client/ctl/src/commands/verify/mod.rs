//! `peermemctl verify`: two ends, any two regions, every byte compared.
//!
//! ```text
//! --connect (drives)                      --listen (serves)
//!   queue pair addresses, over TCP      <->
//!   Introduction: region, route, key    <->
//!   Request::Fill, Request::Compare      ->  fills or compares its own memory
//!                                        <-  Answer
//!   RDMA write or read of its own         ->  nothing to do: the devices move the bytes
//!   Request::Done, with all results      ->  (or Request::GiveUp, with the reason)
//! ```

mod bytes;
mod drive;
mod meet;
mod report;
mod serve;
mod talk;

use std::sync::Arc;

use anyhow::{Context, Result};
use peermem::{
    Client, Lease, Mapping,
    proto::{ByteLen, Direction, Initiator},
    rdma::{Endpoint, EndpointConfig, PreparedEndpoint},
    verbs::{Access, Device, MemoryRegion, ProtectionDomain},
};

use self::{
    drive::drive,
    meet::Meeting,
    report::report,
    serve::serve,
    talk::{Introduction, deadline, exchange_introductions},
};
use super::map;
use crate::{cli::Verify, failure::Usage, output::Output};

pub(crate) fn run(client: &Client, args: &Verify, output: &Output) -> Result<()> {
    let meeting = Meeting::prepare(&args.end)?;
    let request = map::request(client, &args.region, &args.memory, Direction::Bidirectional)?;
    let [Initiator::Rdma(device)] = &request.initiators[..] else {
        return Err(Usage(
            "verify moves bytes by one RDMA device: name it by --initiator rdma:NAME".to_owned(),
        )
        .into());
    };
    let context = Device::by_name(device.as_str())?.open()?;
    let pd = ProtectionDomain::new(&context)?;
    let lease = client.map(&request).with_context(|| format!("can't map {}", request.region))?;
    let memory = Registered::new(&lease, &pd)?;
    let prepared = PreparedEndpoint::new(&pd, EndpointConfig::default())?;

    let stream = meeting.meet()?;
    let endpoint = prepared.connect(&stream, deadline()).context("can't connect to the other end")?;
    let ours = introduce(&lease, &endpoint, &memory)?;
    let theirs = exchange_introductions(&stream, &ours)?;
    let results = if args.end.connect.is_some() {
        let mut mover = memory.reaching(endpoint, &theirs);
        drive(&stream, &mut mover, &*memory.mapping, memory.region.len().min(theirs.remote.length()))?
    } else {
        let results = serve(&stream, &*memory.mapping)?;
        drop(endpoint);
        results
    };
    drop(memory);
    lease.unmap().context("can't give the lease back")?;
    report(output, &ours, &theirs, results)
}

/// Leased memory as both the CPU and the device see it.
struct Registered {
    mapping: Arc<Mapping>,
    region: Arc<MemoryRegion>,
}

impl Registered {
    fn new(lease: &Lease, pd: &Arc<ProtectionDomain>) -> Result<Self> {
        let region = lease.register(pd, Access::REMOTE_READ | Access::REMOTE_WRITE)?;
        let mapping = lease.mapping().context("this end can't compare bytes")?;
        Ok(Self { mapping, region })
    }

    fn reaching(&self, endpoint: Endpoint, theirs: &Introduction) -> drive::RdmaMover {
        drive::RdmaMover { endpoint, local: Arc::clone(&self.region), remote: theirs.remote }
    }
}

fn introduce(lease: &Lease, endpoint: &Endpoint, memory: &Registered) -> Result<Introduction> {
    let info = lease.info();
    let whole = drive::front(&memory.region, memory.region.len())?;
    Ok(Introduction {
        region: info.region.clone(),
        method: info.method,
        paths: info.paths.clone(),
        emulated: info.emulated,
        length: ByteLen::from_usize(memory.mapping.len()),
        remote: endpoint.describe(&whole)?,
    })
}
