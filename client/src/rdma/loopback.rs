//! Two queue pairs of this process, connected to each other, and memory on both ends to check byte by byte.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use peermem_proto::{ByteLen, ByteRange, Method};

use super::{Operation, pattern, port::LocalPort, probe::ProbeError};
use crate::verbs::{
    Access, CompletionChannel, CompletionQueue, Memory, MemoryRegion, Mtu, PreparedQueuePair,
    ProtectionDomain, QpDepth, QueuePair, RemoteTarget, WorkError, WorkId,
};

/// One transfer of a test. Offsets count from the start of each side's memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) operation: Operation,
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
        let Case { operation, local, local_offset, remote, remote_offset, len } = self.case;
        write!(
            f,
            "{operation} of {len} bytes, {local} memory at {local_offset:#x} here and {remote} memory at \
             {remote_offset:#x} there, path MTU {}: ",
            self.mtu
        )?;
        match &self.what {
            Wrong::Bytes { first, count } => write!(f, "{count} bytes wrong, the first at {first:#x}"),
            Wrong::Failed(error) => error.fmt(f),
        }
    }
}

/// One side's memory, registered both ways where the device can.
pub(super) struct Side {
    memory: Arc<Memory>,
    pinned: Arc<MemoryRegion>,
    on_demand: Option<Arc<MemoryRegion>>,
}

impl Side {
    pub(super) fn new(pd: &Arc<ProtectionDomain>, len: ByteLen, on_demand: bool) -> Result<Self, ProbeError> {
        let memory = Arc::new(Memory::anonymous(len)?);
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let pinned = MemoryRegion::pinned(pd, memory.clone(), access)?;
        let on_demand = on_demand.then(|| MemoryRegion::on_demand(pd, memory.clone(), access)).transpose()?;
        Ok(Self { memory, pinned, on_demand })
    }

    fn region(&self, method: Method) -> &Arc<MemoryRegion> {
        self.on_demand.as_ref().filter(|_| method == Method::OnDemand).unwrap_or(&self.pinned)
    }
}

/// A connection of a device with itself.
pub(super) struct Loopback {
    queue: Arc<CompletionQueue>,
    active: QueuePair,
    /// Answers the other one's requests.
    _passive: QueuePair,
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
        Ok(Self { queue, active, _passive: passive, mtu, cases: 0 })
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
        let (from, from_offset, to, to_offset) = match case.operation {
            Operation::Write => (here, case.local_offset, there, case.remote_offset),
            Operation::Read => (there, case.remote_offset, here, case.local_offset),
        };
        self.cases += 1;
        let size = from.pinned.len().to_usize().unwrap_or_default();
        let (source, mut expected) =
            (pattern::bytes(2 * self.cases, size), pattern::bytes(2 * self.cases + 1, size));
        from.memory.write(0, &source)?;
        to.memory.write(0, &expected)?;
        expected[to_offset..to_offset + case.len]
            .copy_from_slice(&source[from_offset..from_offset + case.len]);

        let [local_offset, len] = [case.local_offset, case.len].map(ByteLen::from_usize);
        let range = ByteRange::new(local_offset, len).ok_or(ProbeError::Layout)?;
        let local = here.region(case.local).slice(range).map_err(|_| ProbeError::Layout)?;
        let target = there.region(case.remote);
        let remote = RemoteTarget { address: target.iova() + case.remote_offset as u64, rkey: target.rkey() };
        match case.operation {
            Operation::Write => self.active.post_write(WorkId(0), &local, remote)?,
            Operation::Read => self.active.post_read(WorkId(0), &local, remote)?,
        }
        let mut completions = Vec::new();
        self.queue.wait(&mut completions, Instant::now() + PATIENCE)?;
        let finding = |what| Some(Finding { case, mtu: self.mtu, what });
        if let Some(Err(error)) = completions.first().map(|completion| completion.result) {
            return Ok(finding(Wrong::Failed(error)));
        }
        let mut found = vec![0; size];
        to.memory.read(0, &mut found)?;
        let difference = pattern::difference(&found, &expected);
        Ok(difference.and_then(|(first, count)| finding(Wrong::Bytes { first, count })))
    }
}
