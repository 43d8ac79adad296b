//! Two queue pairs of this process, connected to each other, and memory on both ends to check byte by byte.

use std::{
    fmt,
    os::fd::BorrowedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use peermem_proto::{ByteLen, ByteRange, Method};
use serde::Serialize;

use super::{
    bench::{PAGES, page},
    pattern,
    port::LocalPort,
    probe::ProbeError,
};
use crate::verbs::{
    Access, CompletionChannel, CompletionQueue, DmabufRange, Memory, MemoryRegion, MrSlice, Mtu,
    PreparedQueuePair, ProtectionDomain, QpDepth, QueuePair, RemoteTarget, Work, WorkError, WorkId,
};

/// How bytes are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// RDMA write.
    Write,
    /// RDMA read.
    Read,
    /// Send, into memory that the peer posted to receive.
    Send,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Write => "write",
            Self::Read => "read",
            Self::Send => "send",
        })
    }
}

/// One transfer of a test. Offsets count from the start of each side's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) verb: Verb,
    pub(super) local: Method,
    pub(super) local_offset: usize,
    pub(super) remote: Method,
    pub(super) remote_offset: usize,
    pub(super) len: usize,
}

/// A case that went wrong.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    case: Case,
    mtu: Mtu,
    what: Wrong,
}

#[derive(Debug, Clone)]
enum Wrong {
    Bytes { first: usize, count: usize },
    Failed(WorkError),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { verb, local, local_offset, remote, remote_offset, len } = self.case;
        write!(
            f,
            "{verb} of {len} bytes, {local} memory at {local_offset:#x} here and {remote} memory at \
             {remote_offset:#x} there, path MTU {}: ",
            self.mtu
        )?;
        match &self.what {
            Wrong::Bytes { first, count } => write!(f, "{count} bytes wrong, the first at {first:#x}"),
            Wrong::Failed(error) => error.fmt(f),
        }
    }
}

/// One side's memory, registered in every way that the device has.
pub(super) struct Side {
    memory: Arc<Memory>,
    pinned: Arc<MemoryRegion>,
    on_demand: Option<Arc<MemoryRegion>>,
    dmabuf: Option<Arc<MemoryRegion>>,
}

impl Side {
    /// Host memory, pinned and, if wanted, on demand.
    pub(super) fn anonymous(pd: &Arc<ProtectionDomain>, on_demand: bool) -> Result<Self, ProbeError> {
        Self::new(pd, Memory::anonymous(ByteLen::from_usize(PAGES * page()))?, on_demand)
    }

    /// `memory`, pinned and, if wanted, on demand.
    pub(super) fn new(
        pd: &Arc<ProtectionDomain>,
        memory: Memory,
        on_demand: bool,
    ) -> Result<Self, ProbeError> {
        let memory = Arc::new(memory);
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let pinned = MemoryRegion::pinned(pd, memory.clone(), access)?;
        let on_demand = on_demand.then(|| MemoryRegion::on_demand(pd, memory.clone(), access)).transpose()?;
        Ok(Self { memory, pinned, on_demand, dmabuf: None })
    }

    /// Registers the same memory once more, through a dma-buf of it.
    pub(super) fn add_dmabuf(&mut self, dmabuf: BorrowedFd<'_>) -> Result<(), ProbeError> {
        let (pd, access) = (self.pinned.protection_domain(), self.pinned.access());
        let range = ByteRange::new(ByteLen::ZERO, self.pinned.len()).ok_or(ProbeError::Layout)?;
        let part = DmabufRange { range, iova: 0 };
        self.dmabuf = Some(MemoryRegion::dmabuf(pd, dmabuf, part, access, self.memory.clone())?);
        Ok(())
    }

    /// The memory as a region of that method, if it is registered so.
    fn region(&self, method: Method) -> Option<&Arc<MemoryRegion>> {
        match method {
            Method::Pinned => Some(&self.pinned),
            Method::OnDemand => self.on_demand.as_ref(),
            Method::Dmabuf => self.dmabuf.as_ref(),
        }
    }
}

/// A connection of a device with itself.
pub(super) struct Loopback {
    queue: Arc<CompletionQueue>,
    active: QueuePair,
    /// Answers the other one's requests.
    passive: QueuePair,
    mtu: Mtu,
    cases: u64,
}

impl Loopback {
    pub(super) fn connect(
        pd: &Arc<ProtectionDomain>,
        port: &LocalPort,
        mtu: Mtu,
    ) -> Result<Self, ProbeError> {
        let channel = CompletionChannel::new(pd.context())?;
        let queue = CompletionQueue::new(&channel, 16)?;
        let depth = QpDepth { send: 4, receive: 1 };
        let [a, b] = [0; 2].map(|_| PreparedQueuePair::new(pd, &queue, port.number, depth));
        let (a, b) = (a?, b?);
        let (a_address, b_address) = (port.address(&a), port.address(&b));
        let path = port.path(mtu, 1, 1);
        let passive = b.connect(&path, &a_address)?;
        let active = a.connect(&path, &b_address)?;
        Ok(Self { queue, active, passive, mtu, cases: 0 })
    }

    /// Carries out one case and compares all of the written side's memory, what surrounds the target included.
    pub(super) fn run(
        &mut self,
        case: Case,
        here: &Side,
        there: &Side,
    ) -> Result<Option<Finding>, ProbeError> {
        /// Far beyond what emulation takes; the device's own retries end earlier.
        const PATIENCE: Duration = Duration::from_secs(10);
        let (from, from_offset, to, to_offset) = match case.verb {
            Verb::Write | Verb::Send => (here, case.local_offset, there, case.remote_offset),
            Verb::Read => (there, case.remote_offset, here, case.local_offset),
        };
        self.cases += 1;
        let size = from.pinned.len().to_usize().unwrap_or_default();
        let (source, mut expected) =
            (pattern::bytes(2 * self.cases, size), pattern::bytes(2 * self.cases + 1, size));
        from.memory.write(0, &source)?;
        to.memory.write(0, &expected)?;
        expected[to_offset..to_offset + case.len]
            .copy_from_slice(&source[from_offset..from_offset + case.len]);

        let local = slice(here, case.local, case.local_offset, case.len)?;
        let remote = slice(there, case.remote, case.remote_offset, case.len)?;
        let target = RemoteTarget { address: remote.iova(), rkey: remote.region().rkey() };
        let awaited = match case.verb {
            Verb::Write => self.active.post(WorkId(0), Work::Write { local, remote: target }).map(|()| 1),
            Verb::Read => self.active.post(WorkId(0), Work::Read { local, remote: target }).map(|()| 1),
            Verb::Send => {
                self.passive.post_receive(WorkId(1), &remote)?;
                self.active.post(WorkId(0), Work::Send { local }).map(|()| 2)
            }
        }?;
        let finding = |what| Some(Finding { case, mtu: self.mtu, what });
        let (mut completions, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        while completions.len() < awaited {
            self.queue.wait(&mut completions, deadline)?;
            if let Some(error) = completions.iter().find_map(|completion| completion.result.err()) {
                return Ok(finding(Wrong::Failed(error)));
            }
        }
        let mut found = vec![0; size];
        to.memory.read(0, &mut found)?;
        let difference = pattern::difference(&found, &expected);
        Ok(difference.and_then(|(first, count)| finding(Wrong::Bytes { first, count })))
    }
}

fn slice(side: &Side, method: Method, offset: usize, len: usize) -> Result<MrSlice, ProbeError> {
    let [offset, len] = [offset, len].map(ByteLen::from_usize);
    let range = ByteRange::new(offset, len).ok_or(ProbeError::Layout)?;
    let region = side.region(method).ok_or(ProbeError::Layout)?;
    region.slice(range).map_err(|_| ProbeError::Layout)
}
