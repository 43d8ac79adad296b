//! One end: leased memory, registered, and the endpoint by which the two ends reach each other's.

use std::{net::TcpStream, sync::Arc};

use anyhow::{Context, Result};
use peermem::{
    Client, Lease, Mapping,
    proto::{ByteLen, Initiator, call},
    rdma::{Endpoint, EndpointConfig, PreparedEndpoint},
    verbs::{Access, Device, MemoryRegion, ProtectionDomain},
};

use super::{
    drive::front,
    talk::{Introduction, deadline, exchange_introductions},
};
use crate::failure::Usage;

/// Leased memory as both the CPU and the device see it.
pub(in crate::commands) struct Registered {
    pub(in crate::commands) region: Arc<MemoryRegion>,
    pub(in crate::commands) mapping: Arc<Mapping>,
    lease: Lease,
}

impl Registered {
    /// Gives the lease back, after all that was made of it.
    pub(in crate::commands) fn give_back(self) -> Result<()> {
        let Self { region, mapping, lease } = self;
        drop((region, mapping));
        lease.unmap().context("can't give the lease back")
    }
}

/// An end that hasn't met the other.
pub(in crate::commands) struct Prepared {
    memory: Registered,
    endpoint: PreparedEndpoint,
}

/// An end that knows the other.
pub(in crate::commands) struct Met {
    pub(in crate::commands) memory: Registered,
    pub(in crate::commands) endpoint: Endpoint,
    pub(in crate::commands) ours: Introduction,
    pub(in crate::commands) theirs: Introduction,
}

impl Prepared {
    /// Leases and registers what `request` says.
    pub(in crate::commands) fn new(
        client: &Client,
        request: &call::Map,
        config: EndpointConfig,
    ) -> Result<Self> {
        let [Initiator::Rdma(device)] = &request.initiators[..] else {
            let text = "bytes are moved by one RDMA device here: name it by --initiator rdma:NAME";
            return Err(Usage(text.to_owned()).into());
        };
        let context = Device::by_name(device.as_str())?.open()?;
        let pd = ProtectionDomain::new(&context)?;
        let lease = client.map(request).with_context(|| format!("can't map {}", request.region))?;
        let region = lease.register(&pd, Access::REMOTE_READ | Access::REMOTE_WRITE)?;
        let mapping = lease.mapping().context("this end can't compare bytes")?;
        let endpoint = PreparedEndpoint::new(&pd, config)?;
        Ok(Self { memory: Registered { region, mapping, lease }, endpoint })
    }

    /// Connects to the other end, and tells and learns what is there.
    pub(in crate::commands) fn meet(self, stream: &TcpStream) -> Result<Met> {
        let Self { memory, endpoint } = self;
        let endpoint = endpoint.connect(stream, deadline()).context("can't connect to the other end")?;
        let ours = introduce(&memory, &endpoint)?;
        let theirs = exchange_introductions(stream, &ours)?;
        Ok(Met { memory, endpoint, ours, theirs })
    }
}

fn introduce(memory: &Registered, endpoint: &Endpoint) -> Result<Introduction> {
    let info = memory.lease.info();
    let whole = front(&memory.region, memory.region.len())?;
    Ok(Introduction {
        region: info.region.clone(),
        method: info.method,
        paths: info.paths.clone(),
        emulated: info.emulated,
        length: ByteLen::from_usize(memory.mapping.len()),
        remote: endpoint.describe(&whole)?,
    })
}
