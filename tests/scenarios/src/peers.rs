//! Two connected endpoints in one process, and the memory on both ends.

use std::{
    net::{TcpListener, TcpStream},
    ptr,
    sync::Arc,
    thread,
};

use peermem::{
    Mapping,
    rdma::{Endpoint, EndpointConfig, Operation, PreparedEndpoint, RemoteRegion, TransferError, pattern},
    verbs::{Access, Context, Device, Memory, MemoryRegion, MrSlice, ProtectionDomain},
};
use peermem_proto::{ByteLen, ByteRange, Method};

pub use crate::wait::soon;

/// The guest's RDMA device.
pub const DEVICE: &str = "rxe0";

/// The guest's RDMA device, opened.
///
/// # Panics
///
/// When it isn't there.
pub fn device() -> Arc<Context> {
    Device::by_name(DEVICE).and_then(|device| device.open()).unwrap_or_else(|error| panic!("{error}"))
}

/// The bytes from `offset` on.
///
/// # Panics
///
/// When the range wraps.
pub fn range(offset: u64, len: u64) -> ByteRange {
    ByteRange::new(ByteLen::new(offset), ByteLen::new(len)).unwrap()
}

/// Both ends of a TCP connection on this machine.
///
/// # Panics
///
/// When the machine has no loopback interface.
pub fn streams() -> [TcpStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    [near, listener.accept().unwrap().0]
}

/// Memory that the CPU reaches, to fill and compare it.
pub trait CpuAccess {
    /// How many bytes it has.
    fn size(&self) -> usize;
    /// Puts bytes there.
    fn put(&self, offset: usize, bytes: &[u8]);
    /// Gets them back.
    fn get(&self, offset: usize, bytes: &mut [u8]);

    /// All of it.
    fn all(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size()];
        self.get(0, &mut bytes);
        bytes
    }
}

impl CpuAccess for Memory {
    fn size(&self) -> usize {
        peermem::verbs::Backing::size(self)
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        self.write(offset, bytes).unwrap();
    }

    fn get(&self, offset: usize, bytes: &mut [u8]) {
        self.read(offset, bytes).unwrap();
    }
}

impl CpuAccess for Mapping {
    fn size(&self) -> usize {
        self.len()
    }

    fn put(&self, offset: usize, bytes: &[u8]) {
        self.copy_from_slice(offset, bytes).unwrap();
    }

    fn get(&self, offset: usize, bytes: &mut [u8]) {
        self.copy_to_slice(offset, bytes).unwrap();
    }
}

/// Memory, registered for everything a peer may do.
#[derive(Debug)]
pub struct Side<M = Memory> {
    /// Its registration.
    pub region: Arc<MemoryRegion>,
    /// The memory.
    pub memory: Arc<M>,
}

impl Side {
    /// Registers `memory` by `method`.
    ///
    /// # Panics
    ///
    /// When the device refuses.
    pub fn new(pd: &Arc<ProtectionDomain>, memory: Arc<Memory>, method: Method) -> Self {
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let region = match method {
            Method::Pinned => MemoryRegion::pinned(pd, memory.clone(), access),
            Method::OnDemand => MemoryRegion::on_demand(pd, memory.clone(), access),
            Method::Dmabuf => panic!("mapped memory isn't a dma-buf"),
        };
        Self { region: region.unwrap_or_else(|error| panic!("{error}: {error:?}")), memory }
    }

    /// The same for fresh host memory.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn host(pd: &Arc<ProtectionDomain>, len: ByteLen, method: Method) -> Self {
        Self::new(pd, Arc::new(Memory::anonymous(len).unwrap()), method)
    }
}

impl<M> Side<M> {
    /// A part of it.
    ///
    /// # Panics
    ///
    /// Out of bounds.
    pub fn slice(&self, offset: u64, len: u64) -> MrSlice {
        self.region.slice(range(offset, len)).unwrap()
    }

    /// All of it.
    pub fn whole(&self) -> MrSlice {
        self.slice(0, self.region.len().get())
    }
}

/// Two connected endpoints, in one protection domain.
pub struct Peers {
    /// Of both.
    pub pd: Arc<ProtectionDomain>,
    /// Starts the transfers.
    pub near: Endpoint,
    /// Is written and read.
    pub far: Endpoint,
}

impl Peers {
    /// Connects two endpoints with each other.
    ///
    /// # Panics
    ///
    /// When they don't connect.
    pub fn connect(config: &EndpointConfig) -> Self {
        let pd = ProtectionDomain::new(&device()).unwrap();
        let prepare = || {
            PreparedEndpoint::new(&pd, config.clone()).unwrap_or_else(|error| panic!("{error}: {error:?}"))
        };
        let (near, far, [a, b]) = (prepare(), prepare(), streams());
        let far = thread::spawn(move || far.connect(&b, soon()).unwrap());
        let near = near.connect(&a, soon()).unwrap();
        Self { near, far: far.join().unwrap(), pd }
    }

    /// Moves `len` bytes between `here` and `there` and compares all of the written side, what surrounds the target
    /// included.
    ///
    /// # Errors
    ///
    /// The transfer's; not a byte has changed then.
    ///
    /// # Panics
    ///
    /// At the first wrong byte.
    pub fn check(
        &mut self,
        operation: Operation,
        (here, here_offset): (&Side<impl CpuAccess>, u64),
        (there, there_offset): (&Side<impl CpuAccess>, u64),
        len: u64,
    ) -> Result<(), TransferError> {
        let ends: [(&dyn CpuAccess, u64); 2] = [(&*here.memory, here_offset), (&*there.memory, there_offset)];
        assert!(!ptr::addr_eq(ends[0].0, ends[1].0), "source and target are the same memory");
        let [(from, from_offset), (to, to_offset)] = match operation {
            Operation::Write => ends,
            Operation::Read => [ends[1], ends[0]],
        };
        let seed = len ^ (here_offset << 32) ^ there_offset.rotate_left(48) ^ operation as u64;
        let source = pattern::bytes(seed, from.size());
        let mut expected = pattern::bytes(!seed, to.size());
        from.put(0, &source);
        to.put(0, &expected);

        let remote = self.far.describe(&there.whole()).unwrap();
        let outcome = self.transfer(operation, &here.slice(here_offset, len), &remote, there_offset);
        if outcome.is_ok() {
            let [from, to, count] = [from_offset, to_offset, len].map(|n| usize::try_from(n).unwrap());
            expected[to..to + count].copy_from_slice(&source[from..from + count]);
        }
        if let Some((first, wrong)) = pattern::difference(&to.all(), &expected) {
            panic!(
                "{operation} of {len} bytes at {here_offset:#x}/{there_offset:#x} ended with {outcome:?}: {wrong} wrong from {first:#x} on"
            );
        }
        outcome
    }

    /// Moves bytes, unchecked.
    ///
    /// # Errors
    ///
    /// The transfer's.
    pub fn transfer(
        &mut self,
        operation: Operation,
        local: &MrSlice,
        remote: &RemoteRegion,
        offset: u64,
    ) -> Result<(), TransferError> {
        match operation {
            Operation::Write => self.near.write(local, remote, ByteLen::new(offset), soon()),
            Operation::Read => self.near.read(local, remote, ByteLen::new(offset), soon()),
        }
    }
}

/// An error and all its causes, as a user would see it.
pub fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
