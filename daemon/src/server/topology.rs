//! The topology as it is now: read at start, and again when somebody names a device that wasn't there.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use peermem_proto::{Initiator, PciAddress, Route};
use peermem_topology::{ConfigSpaces, RouteError, Snapshot};

use crate::core::{NoRoute, Routes};

/// How often an unknown name may cause a fresh look at sysfs: each costs milliseconds.
const PAUSE: Duration = Duration::from_millis(250);

/// A snapshot that can be taken again.
#[derive(Debug)]
pub struct LiveTopology {
    sysfs: PathBuf,
    spaces: ConfigSpaces,
    snapshot: Snapshot,
    read: Instant,
}

impl LiveTopology {
    /// Reads the tree below `sysfs`. ACS registers are read through `spaces`, which may have been opened with more
    /// privileges than this process has now.
    pub fn new(sysfs: PathBuf, spaces: ConfigSpaces) -> Self {
        let snapshot = read(&sysfs, &spaces);
        Self { sysfs, spaces, snapshot, read: Instant::now() }
    }

    /// Looks again unless `known` finds what it wants.
    pub fn refresh_unless(&mut self, known: impl Fn(&Snapshot) -> bool) {
        if !known(&self.snapshot) && self.read.elapsed() >= PAUSE {
            self.snapshot = read(&self.sysfs, &self.spaces);
            self.read = Instant::now();
        }
    }

    /// Whether there is such a PCI function.
    pub fn has_function(&self, device: PciAddress) -> bool {
        self.snapshot.has_function(device)
    }
}

fn read(sysfs: &std::path::Path, spaces: &ConfigSpaces) -> Snapshot {
    Snapshot::read(sysfs, spaces).unwrap_or_else(|error| {
        tracing::error!(%error, "can't read the PCI topology: no PCI device can be named");
        Snapshot::default()
    })
}

impl Routes for LiveTopology {
    fn route(&self, provider: Option<PciAddress>, initiator: &Initiator) -> Result<Route, NoRoute> {
        let Some(provider) = provider else {
            return if self.snapshot.has_initiator(initiator) {
                Ok(Route::Software {})
            } else {
                Err(NoRoute::UnknownInitiator)
            };
        };
        self.snapshot.route(provider, initiator).map_err(|error| match error {
            RouteError::UnknownInitiator { .. } => NoRoute::UnknownInitiator,
            other => NoRoute::Blocked(other.to_string()),
        })
    }
}
