//! From a drive to a peer's GPU: through the buffer of another drive, and through host memory at both ends.
//!
//! ```text
//! direct:   drive ─ O_DIRECT ─► other drive's buffer ─ RDMA write ─► GPU
//! bounced:  drive ─ O_DIRECT ─► host memory ─ RDMA write ─► host memory ─ CPU ─► GPU
//! ```

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use peermem::{
    Client, Lease, Mapping,
    proto::{ByteLen, ByteRange, Direction, Extent, Initiator, PciAddress, RegionName, call::Map},
    rdma::{Endpoint, EndpointConfig, PreparedEndpoint, Relay, RemoteRegion, pattern},
    verbs::{Access, Device, Memory, MemoryRegion, MrSlice, ProtectionDomain},
};
use peermem_bench::{Row, median};
use rustix::fs::OFlags;

use crate::{ctl, vram};

const TOTAL: usize = 16 << 20;
const PIECES: [usize; 4] = [64 << 10, 256 << 10, 1 << 20, 4 << 20];
/// How many pieces there is room for where they overlap.
const SLOTS: usize = TOTAL / PIECES[3];
const ROUNDS: u64 = 3;

pub(crate) fn run() -> Result<()> {
    let mut rig = Rig::new()?;
    for piece in PIECES {
        let [mut direct, mut bounced, mut in_turn] = [const { Vec::new() }; 3];
        for round in 1..=ROUNDS {
            let seed = round * TOTAL as u64 + piece as u64;
            rig.write_disk(seed)?;
            direct.push(rig.measure(seed, |rig| rig.direct(piece, SLOTS))?);
            bounced.push(rig.measure(seed, |rig| rig.bounced(piece, SLOTS))?);
            in_turn.push(rig.measure(seed, |rig| rig.direct(piece, 1))?);
        }
        let direct = median(direct);
        let what = |way: &str| format!("drive to GPU, {} KiB a piece, {way}", piece >> 10);
        Row::new(what("direct"), direct, "MB/s").against("bounced", median(bounced)).print();
        Row::new(what("overlapped"), direct, "MB/s").against("one after the other", median(in_turn)).print();
    }
    Ok(())
}

/// Memory as the CPU has it, and as the RDMA device does.
struct Registered<M> {
    region: Arc<MemoryRegion>,
    memory: Arc<M>,
}

impl<M> Registered<M> {
    /// `slots` pieces of it, one behind the other.
    fn slots(&self, piece: usize, slots: usize) -> Result<Vec<MrSlice>> {
        let slot = |slot| Ok(self.region.slice(range(slot * piece, piece)?)?);
        (0..slots).map(slot).collect()
    }

    fn describe(&self, endpoint: &Endpoint) -> Result<RemoteRegion> {
        Ok(endpoint.describe(&self.region.slice(range(0, TOTAL)?)?)?)
    }
}

struct Rig {
    path: PathBuf,
    disk: File,
    buffer: Registered<Mapping>,
    gpu: Registered<Mapping>,
    hosts: [Registered<Memory>; 2],
    near: Endpoint,
    far: Endpoint,
    /// Behind all that was made of them.
    _held: (Vec<Lease>, peermem::RegisteredRegion, Client),
}

impl Rig {
    fn new() -> Result<Self> {
        let [reader, owner] = ctl::buffers()?;
        let reader = reader.device.context("a drive's buffer has an owner")?;
        let path = disk(reader)?;
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let disk = File::options().read(true).custom_flags(direct).open(&path)?;

        let client = Client::connect()?;
        let vram = vram::register(&client, TOTAL as u64)?;
        let pd = ProtectionDomain::new(&Device::by_name("rxe0")?.open()?)?;
        let nic: Initiator = "rdma:rxe0".parse()?;
        let access = Access::REMOTE_READ | Access::REMOTE_WRITE;
        let mut leases = Vec::new();
        let mut lease = |name: &RegionName, extent, initiators: Vec<Initiator>| -> Result<_> {
            let lease = client.map(&Map::new(name.clone(), extent, initiators, Direction::Bidirectional))?;
            let registered = Registered { region: lease.register(&pd, access)?, memory: lease.mapping()? };
            leases.push(lease);
            Ok(registered)
        };
        let size = Extent::Size(ByteLen::from_usize(TOTAL));
        let buffer = lease(&owner.name, size, vec![Initiator::Pci(reader), nic.clone()])?;
        let gpu = lease(&vram.region().name, Extent::Whole, vec![nic])?;
        let host = || -> Result<_> {
            let memory = Arc::new(Memory::anonymous(ByteLen::from_usize(TOTAL))?);
            Ok(Registered { region: MemoryRegion::pinned(&pd, Arc::clone(&memory), access)?, memory })
        };
        let hosts = [host()?, host()?];
        let (near, far) = connect(&pd)?;
        Ok(Self { path, disk, buffer, gpu, hosts, near, far, _held: (leases, vram, client) })
    }

    fn direct(&mut self, piece: usize, slots: usize) -> Result<()> {
        let (buffer, disk) = (&self.buffer, &self.disk);
        let remote = self.gpu.describe(&self.far)?;
        let slots = buffer.slots(piece, slots)?;
        let fill = |before, slot| {
            filled(before, piece, |at, length| buffer.memory.read_file(slot * piece, length, disk, at))
        };
        self.near.relay(&relay(&slots, &remote), fill, |_| Ok(()))?;
        Ok(())
    }

    fn bounced(&mut self, piece: usize, slots: usize) -> Result<()> {
        let ([here, there], gpu, disk) = (&self.hosts, &self.gpu, &self.disk);
        let remote = there.describe(&self.far)?;
        let slots = here.slots(piece, slots)?;
        let fill = |before, slot| {
            filled(before, piece, |at, length| here.memory.read_file(slot * piece, length, disk, at))
        };
        let arrived = |part: ByteRange| {
            let [at, length] = [part.offset(), part.length()].map(|n| n.to_usize().unwrap_or(usize::MAX));
            gpu.memory.copy_from_memory(at, &there.memory, at, length).map_err(io::Error::other)
        };
        self.near.relay(&relay(&slots, &remote), fill, arrived)?;
        Ok(())
    }

    /// MB/s of one way; every byte must be in the GPU's memory afterwards.
    fn measure(&mut self, seed: u64, way: impl FnOnce(&mut Self) -> Result<()>) -> Result<f64> {
        self.gpu.memory.copy_from_slice(0, &vec![0; TOTAL])?;
        let began = Instant::now();
        way(self)?;
        let rate = TOTAL as f64 / 1e6 / began.elapsed().as_secs_f64();
        let mut found = vec![0; TOTAL];
        self.gpu.memory.copy_to_slice(0, &mut found)?;
        let wrong = pattern::difference(&found, &pattern::bytes(seed, TOTAL));
        ensure!(wrong.is_none(), "the GPU has wrong bytes: {wrong:?}");
        Ok(rate)
    }

    fn write_disk(&self, seed: u64) -> Result<()> {
        let mut disk = File::options().write(true).open(&self.path)?;
        disk.write_all(&pattern::bytes(seed, TOTAL))?;
        Ok(disk.sync_all()?)
    }
}

/// Reads the piece behind `before`, where there is one.
fn filled<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    before: ByteLen,
    piece: usize,
    read: impl FnOnce(u64, usize) -> Result<(), E>,
) -> io::Result<ByteLen> {
    let length = piece.min(TOTAL - before.to_usize().unwrap_or(TOTAL));
    if length > 0 {
        read(before.get(), length).map_err(io::Error::other)?;
    }
    Ok(ByteLen::from_usize(length))
}

fn relay<'a>(slots: &'a [MrSlice], remote: &'a RemoteRegion) -> Relay<'a> {
    Relay { slots, remote, offset: ByteLen::ZERO, deadline: soon() }
}

fn range(offset: usize, length: usize) -> Result<ByteRange> {
    let range = ByteRange::new(ByteLen::from_usize(offset), ByteLen::from_usize(length));
    range.context("a range that wraps around")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(120)
}

/// The disk of the drive at `address`.
fn disk(address: PciAddress) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/class/block")? {
        let entry = entry?;
        let device = fs::canonicalize(entry.path())?;
        let on_it = device.components().any(|part| part.as_os_str() == address.to_string().as_str());
        if on_it && !device.join("partition").exists() {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    Err(anyhow!("{address} has no disk"))
}

/// Two endpoints of this process.
fn connect(pd: &Arc<ProtectionDomain>) -> Result<(Endpoint, Endpoint)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let config = EndpointConfig { max_message: ByteLen::from_usize(PIECES[3]), ..EndpointConfig::default() };
    let [near, far] = [(); 2].map(|()| PreparedEndpoint::new(pd, config.clone()));
    let (near, far, stream) = (near?, far?, TcpStream::connect(listener.local_addr()?)?);
    let far = thread::spawn(move || far.connect(&listener.accept()?.0, soon()).map_err(anyhow::Error::from));
    let near = near.connect(&stream, soon())?;
    let far = far.join().map_err(|_| anyhow!("the other endpoint panicked"))??;
    Ok((near, far))
}
