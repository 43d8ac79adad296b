//! The look at the machine. Everything that can't be read becomes an [`Unseen`] fact.

mod daemon;
pub(crate) mod file;
mod kernel;
mod memlock;
mod pci;
mod peer_memory;
mod rdma;

use std::path::{Path, PathBuf};

use peermem_topology::{ConfigSpaces, Cpu, Snapshot};

use crate::{
    facts::{Facts, Seen, Unseen},
    recommendation::{self, Recommendation},
};

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
    /// [`recommendation::folders`]
    pub recommendations: Vec<PathBuf>,
}

impl Default for Roots {
    fn default() -> Self {
        let [sysfs, proc, boot, dev] = ["/sys", "/proc", "/boot", "/dev"].map(PathBuf::from);
        Self { sysfs, proc, boot, dev, recommendations: recommendation::folders() }
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
            daemon: daemon::ask(asked.socket.as_deref(), &roots.proc),
            recommendations: Recommendation::all(&roots.recommendations),
            topology,
        }
    }
}

fn topology(sysfs: &Path, proc: &Path) -> Seen<Snapshot> {
    let read = || {
        let cpu = Cpu::read(&proc.join("cpuinfo"))?;
        Snapshot::read_in_full(sysfs, cpu, &ConfigSpaces::open(sysfs)?)
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn the_tree_comes_with_its_details() {
        let root = tempfile::tempdir().unwrap();
        let sysfs = root.path().join("sys");
        let drive = sysfs.join("devices/pci0000:00/0000:00:03.0");
        fs::create_dir_all(drive.join("p2pmem")).unwrap();
        for (name, text) in [
            ("vendor", "0x1b36\n"),
            ("device", "0x0010\n"),
            ("class", "0x010802\n"),
            ("config", ""),
            ("p2pmem/size", "67108864\n"),
            ("p2pmem/available", "66977792\n"),
            ("p2pmem/published", "1\n"),
        ] {
            fs::write(drive.join(name), text).unwrap();
        }
        fs::create_dir_all(sysfs.join("bus/pci/devices")).unwrap();
        symlink(&drive, sysfs.join("bus/pci/devices/0000:00:03.0")).unwrap();
        fs::create_dir_all(sysfs.join("devices/system/node/node0")).unwrap();
        fs::write(root.path().join("cpuinfo"), "vendor_id : AuthenticAMD\ncpu family : 25\n").unwrap();

        let snapshot = topology(&sysfs, root.path()).unwrap();
        let pool = snapshot.functions.values().next().unwrap().details.p2pmem.unwrap();
        assert!(pool.published && pool.size.get() == 64 << 20);
        assert_eq!(snapshot.cpu.unwrap().family, 25);
        assert_eq!(numa_nodes(&sysfs), Some(1));
        assert!(topology(&sysfs, &sysfs).is_err(), "there is no cpuinfo");
    }
}
