//! The topology as it is now: read at start, and again when somebody names a device that wasn't there.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use peermem_proto::{Initiator, PciAddress, Route};
use peermem_topology::{ConfigSpaces, Cpu, NoRoute as Verdict, Snapshot};

use crate::core::{NoRoute, Routes};

/// How often an unknown name may cause a fresh look at sysfs: each costs milliseconds.
const PAUSE: Duration = Duration::from_millis(250);

/// A snapshot that can be taken again.
#[derive(Debug)]
pub struct LiveTopology {
    sysfs: PathBuf,
    spaces: ConfigSpaces,
    cpu: Option<Cpu>,
    snapshot: Snapshot,
    read: Instant,
}

impl LiveTopology {
    /// Reads the tree below `sysfs`. ACS registers are read through `spaces`, which may have been opened with more
    /// privileges than this process has now.
    pub fn new(sysfs: PathBuf, spaces: ConfigSpaces) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| Cpu::from_cpuinfo(&text));
        let mut topology = Self { sysfs, spaces, cpu, snapshot: Snapshot::default(), read: Instant::now() };
        topology.read();
        topology
    }

    /// Reads the tree again.
    pub fn read(&mut self) {
        match Snapshot::read(&self.sysfs, self.cpu.clone(), &self.spaces) {
            Ok(snapshot) => self.snapshot = snapshot,
            Err(error) => tracing::error!(%error, "can't read the PCI topology; the last one stays in use"),
        }
        self.read = Instant::now();
    }

    /// Whether there is such a PCI function.
    pub fn has_function(&mut self, device: PciAddress) -> bool {
        self.look(|snapshot| snapshot.functions.contains_key(&device))
    }

    /// Whether there is such an initiator. [`Initiator::Emulated`] always is.
    pub fn has_initiator(&mut self, initiator: &Initiator) -> bool {
        self.look(|snapshot| has_initiator(snapshot, initiator))
    }

    /// The RDMA devices.
    pub fn rdma_devices(&self) -> Vec<Initiator> {
        self.snapshot.rdma.keys().cloned().map(Initiator::Rdma).collect()
    }

    /// The tree as it is, with what routes don't need: drivers, BARs, IOMMU groups, device DAX.
    pub fn in_full(&self) -> Snapshot {
        Snapshot::read_in_full(&self.sysfs, self.cpu.clone(), &self.spaces).unwrap_or_else(|error| {
            tracing::error!(%error, "can't read the PCI topology in full");
            Snapshot::default()
        })
    }

    /// Looks a second time, at a fresh snapshot, before it says no.
    fn look(&mut self, found: impl Fn(&Snapshot) -> bool) -> bool {
        if !found(&self.snapshot) && self.read.elapsed() >= PAUSE {
            self.read();
        }
        found(&self.snapshot)
    }
}

fn has_initiator(snapshot: &Snapshot, initiator: &Initiator) -> bool {
    match initiator {
        Initiator::Rdma(name) => snapshot.rdma.contains_key(name),
        Initiator::Pci(address) | Initiator::Vfio(address) => snapshot.functions.contains_key(address),
        Initiator::Emulated => true,
    }
}

impl Routes for LiveTopology {
    fn route(&self, provider: Option<PciAddress>, initiator: &Initiator) -> Result<Route, NoRoute> {
        match provider {
            // Host memory: no device-to-device transaction takes place, whoever the initiator is.
            None if has_initiator(&self.snapshot, initiator) => Ok(Route::Software {}),
            None => Err(NoRoute::UnknownInitiator),
            Some(provider) => self.snapshot.route(provider, initiator).map_err(|verdict| match verdict {
                Verdict::UnknownInitiator(_) => NoRoute::UnknownInitiator,
                other => NoRoute::Blocked(other.to_string()),
            }),
        }
    }
}
