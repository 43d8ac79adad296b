//! Bouncing: from device to host memory by the CPU, host to host by RDMA, host to device by the CPU.

use std::{sync::Arc, time::Instant};

use anyhow::{Context, Result};
use peermem::{
    Mapping,
    proto::{ByteLen, ByteRange},
    rdma::{Endpoint, Message, Pipeline, RemoteRegion, Waiting},
    verbs::{Access, Memory, MemoryRegion, MrSlice, ProtectionDomain},
};

use super::flow::Mover;
use crate::commands::verify::receive::Buffers;

/// Host memory of each end for messages under way, each way.
const STAGING: u64 = 16 << 20;

/// How many messages of `size` host memory has room for, where that is the longest.
pub(super) fn slots(size: ByteLen) -> u32 {
    slots_of(staging(size), size)
}

fn slots_of(bytes: u64, size: ByteLen) -> u32 {
    u32::try_from((bytes / slot(size).max(1)).max(1)).unwrap_or(u32::MAX)
}

/// Host memory for messages up to `longest`: four of them at least.
fn staging(longest: ByteLen) -> u64 {
    STAGING.max(slot(longest).saturating_mul(4))
}

/// Messages begin at page boundaries, as some devices need it.
fn slot(size: ByteLen) -> u64 {
    size.get().next_multiple_of(1 << 16)
}

/// Pinned host memory of one end, and the device memory behind it.
#[derive(Debug, Clone)]
pub(super) struct Staging {
    device: Arc<Mapping>,
    memory: Arc<Memory>,
    region: Arc<MemoryRegion>,
}

impl Staging {
    /// Room for four messages of `longest` at least.
    pub(super) fn new(pd: &Arc<ProtectionDomain>, device: Arc<Mapping>, longest: ByteLen) -> Result<Self> {
        let memory = Arc::new(Memory::anonymous(ByteLen::new(staging(longest)))?);
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let region = MemoryRegion::pinned(pd, Arc::clone(&memory), access)?;
        Ok(Self { device, memory, region })
    }

    /// All of it, for the other end.
    pub(super) fn describe(&self, endpoint: &Endpoint) -> Result<RemoteRegion> {
        Ok(endpoint.describe(&self.part(ByteLen::ZERO, self.region.len())?)?)
    }

    /// How many messages of `size` there is room for.
    pub(super) fn slots(&self, size: ByteLen) -> u32 {
        slots_of(self.region.len().get(), size)
    }

    /// Where the message of that number is, the first being 0.
    fn place(&self, number: u64, size: ByteLen) -> ByteLen {
        ByteLen::new((number % u64::from(self.slots(size))) * slot(size))
    }

    /// Copies the front of the device memory there.
    fn load(&self, offset: ByteLen, size: ByteLen) -> Result<()> {
        let (at, size) = as_the_cpu_counts(offset, size)?;
        Ok(self.device.copy_to_memory(0, &self.memory, at, size)?)
    }

    /// Copies from there to the front of the device memory.
    fn unload(&self, offset: ByteLen, size: ByteLen) -> Result<()> {
        let (at, size) = as_the_cpu_counts(offset, size)?;
        Ok(self.device.copy_from_memory(0, &self.memory, at, size)?)
    }

    fn part(&self, offset: ByteLen, length: ByteLen) -> Result<MrSlice> {
        let range = ByteRange::new(offset, length).context("a range that wraps around")?;
        Ok(self.region.slice(range)?)
    }
}

/// Messages that bounce. One thread does the copies of both ends, while the device moves other messages.
#[derive(Debug)]
pub(super) struct Bounced<'a> {
    pub(super) pipeline: Pipeline<'a>,
    pub(super) near: &'a Staging,
    pub(super) remote: &'a RemoteRegion,
    pub(super) source: &'a Staging,
    pub(super) target: &'a Staging,
    pub(super) size: ByteLen,
}

/// What is registered is in the address space.
fn as_the_cpu_counts(offset: ByteLen, size: ByteLen) -> Result<(usize, usize)> {
    offset.to_usize().zip(size.to_usize()).context("more than the address space")
}

impl Mover for Bounced<'_> {
    fn has_room(&self) -> bool {
        self.pipeline.has_room()
    }

    fn begin(&mut self, number: u64) -> Result<()> {
        let offset = self.near.place(number, self.size);
        self.source.load(offset, self.size)?;
        Ok(self.pipeline.start(self.near.part(offset, self.size)?, self.remote, offset)?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.pipeline.flush()?)
    }

    fn wait(&mut self, waiting: Waiting, deadline: Instant) -> Result<u32> {
        Ok(self.pipeline.wait(waiting, deadline)?)
    }

    fn end(&mut self, number: u64) -> Result<()> {
        self.target.unload(self.near.place(number, self.size), self.size)
    }
}

/// Messages of one size that bounce: each is copied from device memory before it is sent, and to it once it has come. Each end's
/// thread does the copies of that end.
#[derive(Debug)]
pub(super) struct HostBuffers {
    outgoing: Staging,
    incoming: Staging,
    size: ByteLen,
    sent: u64,
}

impl HostBuffers {
    pub(super) fn new(pd: &Arc<ProtectionDomain>, device: &Arc<Mapping>, size: ByteLen) -> Result<Self> {
        let staging = || Staging::new(pd, Arc::clone(device), size);
        Ok(Self { outgoing: staging()?, incoming: staging()?, size, sent: 0 })
    }
}

impl Buffers for HostBuffers {
    fn receives(&self, most: u32) -> Result<Vec<MrSlice>> {
        let count = self.incoming.slots(self.size).min(most);
        let receive = |number| self.incoming.part(self.incoming.place(number, self.size), self.size);
        (0..u64::from(count)).map(receive).collect()
    }

    fn outgoing(&mut self, length: ByteLen) -> Result<MrSlice> {
        let offset = self.outgoing.place(self.sent, self.size);
        self.sent += 1;
        self.outgoing.load(offset, length)?;
        self.outgoing.part(offset, length)
    }

    fn arrived(&mut self, message: &Message) -> Result<()> {
        let offset = self.incoming.place(message.receive() as u64, self.size);
        self.incoming.unload(offset, message.length())
    }
}
