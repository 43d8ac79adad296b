//! The GPU's owner: exports a buffer, registers it with the daemon, and lets its peer reach it.

use std::{
    net::{SocketAddr, TcpListener},
    os::fd::AsFd,
    sync::Arc,
};

use anyhow::{Context, Result};
use peermem::{
    Client,
    proto::{Direction, Extent, Sharing, call::Map},
    rdma::{EndpointConfig, PreparedEndpoint, exchange},
    verbs::{Access, Device, ProtectionDomain},
};
use peermem_testgpu::TestGpu;

use crate::{
    plan::{TOTAL, wrong_in},
    talk::{Compared, Offer, Request, soon},
};

/// Serves one peer.
pub(crate) fn run(seed: u64, listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("can't listen at {listen}"))?;
    let gpu = TestGpu::open().context("can't open the test GPU")?;
    let buffer = gpu.alloc(TOTAL as u64).context("can't allocate GPU memory")?;

    let client = Client::connect()?;
    let owner = gpu.info()?.pci_address.parse()?;
    let region = client.register("gpu0".parse()?, owner, buffer.as_fd(), Sharing::Owner)?;
    println!("gpu      registered {TOTAL} bytes of {owner} as region {}", region.region().name);

    let context = Device::by_name("rxe0")?.open()?;
    let pd = ProtectionDomain::new(&context)?;
    let request = Map::new(
        region.region().name.clone(),
        Extent::Whole,
        ["rdma:rxe0".parse()?],
        Direction::Bidirectional,
    );
    let lease = client.map(&request)?;
    let memory = lease.register(&pd, Access::REMOTE_READ | Access::REMOTE_WRITE)?;
    let seen_by_cpu = lease.mapping()?;

    let (stream, _) = listener.accept()?;
    let endpoint = PreparedEndpoint::new(&pd, EndpointConfig::default())?.connect(&stream, soon())?;
    let remote = endpoint.describe(&whole(&memory)?)?;
    exchange::send(&stream, &Offer { lease: (*lease.info()).clone(), remote }, soon())?;
    while let Request::Compare { offset, length } = exchange::receive(&stream, soon())? {
        let wrong = wrong_in(&seen_by_cpu, seed, offset, length)?;
        exchange::send(&stream, &Compared { wrong }, soon())?;
    }
    drop((endpoint, memory, seen_by_cpu));
    lease.unmap()?;
    Ok(())
}

/// All of a memory region.
pub(crate) fn whole(region: &Arc<peermem::verbs::MemoryRegion>) -> Result<peermem::verbs::MrSlice> {
    crate::storage::part(region, 0, usize::try_from(region.len().get())?)
}
