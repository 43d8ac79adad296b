//! The storage side: leases of two drives' memory, and the file that travels.

use std::{
    fs::File,
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use peermem::{
    Client, Lease, Mapping,
    proto::{ByteLen, ByteRange, Initiator},
    rdma::{EndpointConfig, PreparedEndpoint, exchange, pattern},
    verbs::{Access, Device, MemoryRegion, MrSlice, ProtectionDomain},
};
use rustix::fs::OFlags;

use crate::{
    drive, metrics,
    plan::{TOTAL, pieces, wrong_bytes, wrong_in},
    table::{self, Hop, route},
    talk::{Compared, Offer, Request, soon},
};

/// What to move, and where.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) seed: u64,
    pub(crate) connect: SocketAddr,
    pub(crate) drive_a: PathBuf,
    pub(crate) drive_b: PathBuf,
    pub(crate) metrics: SocketAddr,
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

/// Writes the file that will travel.
pub(crate) fn prepare(seed: u64, path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("can't create {}", path.display()))?;
    file.write_all(&pattern::bytes(seed, TOTAL))?;
    Ok(file.sync_all()?)
}

/// Device memory of one drive, leased, mapped and registered.
struct Buffer {
    lease: Lease,
    mapping: Arc<Mapping>,
    region: Arc<MemoryRegion>,
}

impl Buffer {
    fn new(lease: Lease, pd: &Arc<ProtectionDomain>) -> Result<Self> {
        let region = lease.register(pd, Access::LOCAL_WRITE)?;
        let mapping = lease.mapping()?;
        Ok(Self { lease, mapping, region })
    }
}

/// A part of a memory region.
pub(crate) fn part(region: &Arc<MemoryRegion>, offset: usize, length: usize) -> Result<MrSlice> {
    let range = ByteRange::new(ByteLen::from_usize(offset), ByteLen::from_usize(length));
    Ok(region.slice(range.context("a range that wraps around")?)?)
}

/// Moves the file and prints what happened.
pub(crate) fn run(job: &Job) -> Result<()> {
    let client = Client::connect()?;
    let (a, b) = (drive::function(&job.drive_a)?, drive::function(&job.drive_b)?);
    let (drive, nic) = (Initiator::Pci(a), "rdma:rxe0".parse::<Initiator>()?);
    let context = Device::by_name("rxe0")?.open()?;
    let pd = ProtectionDomain::new(&context)?;
    let initiators = [drive.clone(), nic.clone()];
    let outward = Buffer::new(drive::lease(&client, b, TOTAL, &initiators)?, &pd)?;
    let homeward = Buffer::new(drive::lease(&client, a, TOTAL, &initiators)?, &pd)?;
    println!("storage  leased {TOTAL} bytes each of the memory of drive A ({a}) and drive B ({b})");

    let stream = TcpStream::connect(job.connect).context("the GPU's owner isn't there")?;
    let mut endpoint = PreparedEndpoint::new(&pd, EndpointConfig::default())?.connect(&stream, soon())?;
    let offer: Offer = exchange::receive(&stream, soon())?;
    println!("storage  connected by rxe0 at path MTU {}", endpoint.path_mtu());

    let mut hops = hops(&outward.lease, &homeward.lease, &offer, [&drive, &nic]);
    let files = Files::open(job)?;
    for (offset, length) in pieces() {
        outward.mapping.read_file(offset, length, &files.source, offset as u64).context("hop 1")?;
        hops[0].count(length, wrong_in(&outward.mapping, job.seed, offset, length)?);

        let there = ByteLen::from_usize(offset);
        endpoint
            .write(&part(&outward.region, offset, length)?, &offer.remote, there, soon())
            .context("hop 2")?;
        exchange::send(&stream, &Request::Compare { offset, length }, soon())?;
        hops[1].count(length, exchange::receive::<Compared>(&stream, soon())?.wrong);

        endpoint
            .read(&part(&homeward.region, offset, length)?, &offer.remote, there, soon())
            .context("hop 3")?;
        hops[2].count(length, wrong_in(&homeward.mapping, job.seed, offset, length)?);

        homeward.mapping.write_file(offset, length, &files.target, offset as u64).context("hop 4")?;
    }
    // Written past the page cache and never read before, so this comes from the disk.
    let landed = std::fs::read(&job.target)?;
    hops[3].count(landed.len(), wrong_bytes(job.seed, 0, &landed));

    table::print(&hops);
    println!("\nhttp://{}/metrics while the leases are held, in part:", job.metrics);
    metrics::print(job.metrics)?;

    exchange::send(&stream, &Request::Done, soon())?;
    drop(endpoint);
    for Buffer { lease, mapping, region } in [outward, homeward] {
        drop((mapping, region));
        lease.unmap()?;
    }
    ensure!(hops.iter().all(|hop| hop.wrong == 0 && hop.bytes == TOTAL), "bytes were lost on the way");
    Ok(())
}

/// The file that travels and the one it ends in, both beyond the page cache.
struct Files {
    source: File,
    target: File,
}

impl Files {
    fn open(job: &Job) -> Result<Self> {
        let direct = i32::try_from(OFlags::DIRECT.bits())?;
        let named = |path: &Path| format!("can't open {} with O_DIRECT", path.display());
        let mut options = File::options();
        options.custom_flags(direct);
        let source = options.clone().read(true).open(&job.source);
        let target = options.write(true).create(true).truncate(true).open(&job.target);
        Ok(Self {
            source: source.with_context(|| named(&job.source))?,
            target: target.with_context(|| named(&job.target))?,
        })
    }
}

/// The four hops, nothing moved yet. A hop over RDMA has two ends, and a method and a route at each.
fn hops(outward: &Lease, homeward: &Lease, offer: &Offer, [drive, nic]: [&Initiator; 2]) -> [Hop; 4] {
    let hop = |what, from, to, method, route| Hop { what, from, to, method, route, bytes: 0, wrong: 0 };
    let rdma = |local: &Lease, writes: bool| {
        let local = local.info();
        let ends = [&*local, &offer.lease];
        let [ours, theirs] = ends.map(|lease| route(lease, nic));
        let route = if ours == theirs { ours } else { format!("{ours}, then {theirs}") };
        (format!("{} to {} MR", ends[usize::from(!writes)].method, ends[usize::from(writes)].method), route)
    };
    let direct = |lease: &Lease| ("O_DIRECT".to_owned(), route(&lease.info(), drive));
    let ((m1, r1), (m2, r2), (m3, r3), (m4, r4)) =
        (direct(outward), rdma(outward, true), rdma(homeward, false), direct(homeward));
    [
        hop("read", "A's disk", "B's CMB", m1, r1),
        hop("RDMA WRITE", "B's CMB", "GPU BAR", m2, r2),
        hop("RDMA READ", "GPU BAR", "A's CMB", m3, r3),
        hop("write", "A's CMB", "A's disk", m4, r4),
    ]
}
