//! The look at the machine. Everything that can't be read becomes an [`Unseen`] fact.

mod daemon;
mod file;
mod kernel;
mod memlock;
mod pci;
mod peer_memory;
mod rdma;

use std::path::{Path, PathBuf};

use peermem_topology::{ConfigSpaces, Cpu, Snapshot};

use crate::facts::{Facts, Seen, Unseen};

/// Where the machine is looked at.
#[derive(Debug, Clone)]
pub struct Roots {
    /// `/sys`
    pub sysfs: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/boot`
    pub boot: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        let [sysfs, proc, boot, dev] = ["/sys", "/proc", "/boot", "/dev"].map(PathBuf::from);
        Self { sysfs, proc, boot, dev }
    }
}

/// What the caller wants to know besides.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The daemon's socket; `None` for where it usually is.
    pub socket: Option<PathBuf>,
    /// A systemd unit whose limits matter.
    pub unit: Option<String>,
}

impl Facts {
    /// Looks at the machine. Needs no privilege and no daemon; sees less without. RDMA devices are opened, and move a few
    /// kilobytes between two buffers of this process.
    pub fn gather(roots: &Roots, asked: &Asked) -> Self {
        let topology = topology(&roots.sysfs, &roots.proc);
        let seen = topology.as_ref().ok();
        Self {
            kernel_release: kernel::release(&roots.proc),
            kernel_options: kernel::options(&roots.proc, &roots.boot),
            rdma: rdma::devices(&roots.sysfs, &roots.dev),
            memlock: memlock::read(&roots.proc, asked.unit.as_deref()),
            peer_memory: peer_memory::read(&roots.sysfs, &roots.proc),
            driver_shares: seen
                .map(|snapshot| pci::driver_shares(&roots.sysfs, snapshot))
                .unwrap_or_default(),
            vram: seen.map(|snapshot| pci::vram(&roots.sysfs, snapshot)).unwrap_or_default(),
            relaxed_ordering: seen
                .map(|snapshot| pci::relaxed_ordering(&roots.sysfs, snapshot))
                .unwrap_or_default(),
            numa_nodes: numa_nodes(&roots.sysfs),
            daemon: daemon::ask(asked.socket.as_deref()),
            topology,
        }
    }
}

fn topology(sysfs: &Path, proc: &Path) -> Seen<Snapshot> {
    let read = || {
        let cpu = Cpu::read(&proc.join("cpuinfo"))?;
        Snapshot::read(sysfs, cpu, &ConfigSpaces::open(sysfs)?)
    };
    read().map_err(|error| in_words(&error))
}

/// `None` on kernels that know nothing of NUMA.
fn numa_nodes(sysfs: &Path) -> Option<usize> {
    let names = file::names(&sysfs.join("devices/system/node"));
    let is_node = |name: &&String| name.strip_prefix("node").is_some_and(|n| n.parse::<u32>().is_ok());
    Some(names.iter().filter(is_node).count()).filter(|&nodes| nodes > 0)
}

/// An error with its causes.
fn in_words(error: &dyn std::error::Error) -> Unseen {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    Unseen(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
}
