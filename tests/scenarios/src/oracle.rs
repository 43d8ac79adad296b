//! The kernel's own answer for two drives, beside the topology's prediction and what the bytes did: `pread` with
//! `O_DIRECT` from the disk of the one into the Controller Memory Buffer (CMB) of the other.
#![allow(unsafe_code, reason = "a read into memory that is never behind a reference")]

use std::{collections::BTreeSet, fmt, io, os::fd::AsRawFd, path::Path};

use nix::libc;
use peermem::{
    rdma::pattern,
    verbs::{Backing, Memory},
};
use peermem_proto::{ByteLen, Route};
use peermem_topology::{ConfigSpaces, Cpu, NoRoute, Snapshot};

use crate::{
    cmb,
    command::{fail, json, peermemctl, succeed},
    daemon::Daemon,
    drive::Drive,
    peers::CpuAccess,
};

const BYTES: usize = 64 * 1024;

/// The machine's PCI tree at this moment.
pub fn snapshot(configs: &ConfigSpaces) -> Snapshot {
    Snapshot::read(Path::new("/sys"), Cpu::read(Path::new("/proc/cpuinfo")).unwrap(), configs).unwrap()
}

/// One drive, one CMB, and what came of it.
#[derive(Debug)]
pub struct Trial {
    /// The drive that writes to the CMB.
    pub initiator: Drive,
    /// The drive whose CMB it is.
    pub provider: Drive,
    /// What the topology said before.
    pub predicted: Result<Route, NoRoute>,
    /// What the kernel said. No error means that it accepted the pair, moved all bytes and saw no fault.
    pub kernel: io::Result<()>,
    /// Whether the CMB has the disk's bytes.
    pub arrived: bool,
}

impl Trial {
    fn run(snapshot: &Snapshot, initiator: &Drive, provider: &Drive) -> Self {
        let predicted = snapshot.route(provider.address, &initiator.initiator());
        let seed = u64::from(initiator.serial.as_bytes()[0]) << 8 | u64::from(provider.serial.as_bytes()[0]);
        let written = pattern::bytes(seed, BYTES);
        initiator.write(0, &written);
        let memory = cmb::memory_of(&provider.allocator(), ByteLen::new(BYTES as u64));
        memory.put(0, &pattern::bytes(!seed, BYTES));
        let kernel = read_disk(initiator, &memory);
        let arrived = memory.all() == written;
        Self { initiator: initiator.clone(), provider: provider.clone(), predicted, kernel, arrived }
    }

    /// Whether the CMB is the drive's own.
    pub fn is_own(&self) -> bool {
        self.initiator.serial == self.provider.serial
    }

    /// Whether the pair consists of these two, either way round.
    pub fn is_between(&self, one: &str, other: &str) -> bool {
        let pair = [self.initiator.serial.as_str(), self.provider.serial.as_str()];
        pair == [one, other] || pair == [other, one]
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { initiator, provider, predicted, kernel, arrived } = self;
        write!(f, "disk {} -> CMB of {}: predicted ", initiator.serial, provider.serial)?;
        match predicted {
            Ok(route) => write!(f, "{route}"),
            Err(why) => write!(f, "{why}"),
        }?;
        match kernel {
            Ok(()) => write!(f, "; the kernel accepted"),
            Err(error) => write!(f, "; the kernel refused: {error}"),
        }?;
        write!(f, "; the bytes {}", if *arrived { "arrived" } else { "did not arrive" })
    }
}

/// One `pread` of the disk's first bytes into all of `memory`.
fn read_disk(drive: &Drive, memory: &Memory) -> io::Result<()> {
    let (disk, length) = (drive.direct(), Backing::size(memory));
    // SAFETY: the kernel writes at most `length` bytes from the start of the mapping, which has as many, and no reference
    // to them exists.
    let got = unsafe { libc::pread(disk.as_raw_fd(), memory.start().cast(), length, 0) };
    match usize::try_from(got) {
        Ok(got) if got == length => Ok(()),
        Ok(got) => Err(io::Error::other(format!("{got} bytes of {length}"))),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Tries each of these drives with the CMB of each.
///
/// # Panics
///
/// Where the kernel says another thing than the topology, and where it says no and bytes arrive.
pub fn trials(serials: &[&str]) -> Vec<Trial> {
    let snapshot = snapshot(&ConfigSpaces::open(Path::new("/sys")).unwrap());
    println!("snapshot: {}", serde_json::to_string(&snapshot).unwrap());
    let drives: Vec<_> = serials.iter().map(|serial| Drive::named(serial)).collect();
    let pairs = drives.iter().flat_map(|initiator| drives.iter().map(move |provider| (initiator, provider)));
    let trials: Vec<_> =
        pairs.map(|(initiator, provider)| Trial::run(&snapshot, initiator, provider)).collect();
    let differs = |trial: &&Trial| {
        trial.predicted.is_ok() != trial.kernel.is_ok() || (trial.kernel.is_err() && trial.arrived)
    };
    trials.iter().for_each(|trial| println!("{trial}"));
    let differences: Vec<_> = trials.iter().filter(differs).map(ToString::to_string).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    trials
}

/// Asserts that the daemon, run by systemd without any config, serves the CMB of every drive tried, and that
/// `peermemctl map` gets what the kernel lets the drive reach and is refused the rest for want of a route.
pub fn assert_the_daemon_agrees(trials: &[Trial]) {
    let daemon = Daemon::start_with(None);
    let served: BTreeSet<_> =
        daemon.client().regions().unwrap().into_iter().map(|region| region.name).collect();
    assert_eq!(served, trials.iter().map(|trial| trial.provider.region()).collect());
    for trial in trials {
        let (region, initiator) = (trial.provider.region(), trial.initiator.initiator());
        let mut map = peermemctl(&format!("map {region} --size 64KiB --initiator {initiator} --for 0"));
        match &trial.kernel {
            Ok(()) => assert_eq!(json(&succeed(&mut map))["region"], region.as_str(), "{trial}"),
            Err(_) => assert_eq!(json(&fail(&mut map, 1))["error"], "io.peermem.Broker.NoRoute", "{trial}"),
        }
    }
}
