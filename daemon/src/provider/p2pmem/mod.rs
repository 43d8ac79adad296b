//! PCI functions that publish peer-to-peer memory in sysfs (drivers/pci/p2pdma.c), such as NVMe drives with a
//! Controller Memory Buffer.
//!
//! `p2pmem/allocate` is an allocator, not a window: every mmap of it takes fresh pages from the function's pool, and
//! gives them back with the last unmap. The kernel doesn't zero them. A client that holds the descriptor can map more than
//! its lease as long as the pool has free pages: so the daemon holds them itself, see [`hold`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use peermem_proto::{
    ByteLen, Fault, Method, PciAddress, ProviderKind, RegionName, Revocation, Shape, Sharing,
};
use rustix::fs::{Mode, OFlags};

use super::{Carved, fault};
use crate::core::{RegionSpec, Returns};

mod device;
pub mod hold;
mod keeper;
mod plan;
mod pool;
mod shelf;

pub use device::Device;
pub use hold::{Hold, PrepareError};
pub use keeper::{Carving, Done, Job, Keeper};
pub use plan::{Amount, Plan};
pub use pool::{Memory, Pool, PoolError};
pub use shelf::{Clean, Dirty, Ready};

/// Which functions become regions, and under which names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Functions that are left alone.
    pub ignore: BTreeSet<PciAddress>,
    /// Names chosen by the administrator; others are called `p2pmem-ADDRESS`.
    pub names: BTreeMap<PciAddress, RegionName>,
    /// How much of a pool the daemon holds.
    pub plan: Plan,
    /// The same for single functions, where it differs.
    pub amounts: BTreeMap<PciAddress, Amount>,
}

impl Rules {
    fn plan_of(&self, device: PciAddress) -> Plan {
        let amount = self.amounts.get(&device).copied().unwrap_or(self.plan.amount);
        Plan { amount, ..self.plan }
    }
}

/// The peer-to-peer memory of one PCI function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2pmem {
    folder: PathBuf,
    plan: Plan,
}

impl P2pmem {
    /// Takes the daemon's share of the pool; `None` when the rules say that it holds nothing here. Its
    /// [`held`](Hold::held) is then the region's size.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn hold(&self) -> Result<Option<Hold>, PoolError> {
        match self.plan.amount {
            Amount::Nothing => Ok(None),
            Amount::All | Amount::AtMost(_) => Hold::begin(Device::open(&self.folder)?, self.plan).map(Some),
        }
    }

    /// A descriptor of the allocator, after a look at whether the pool still has that much.
    pub(super) fn carve(&self, region: &RegionName, length: ByteLen) -> Result<Carved, Fault> {
        let available = read_number(&self.folder.join("available"));
        let available =
            available.ok_or_else(|| fault(region, "read p2pmem/available", "the device is gone"))?;
        if length.get() > available {
            let reason = format!(
                "the device's pool has {} left for {length}: memory is held by processes outside of the daemon",
                ByteLen::new(available)
            );
            return Err(fault(region, "carve", reason));
        }
        open_allocator(region, &self.allocator())
    }

    fn allocator(&self) -> PathBuf {
        self.folder.join("allocate")
    }
}

/// By which a client maps memory of the pool.
fn open_allocator(region: &RegionName, path: &Path) -> Result<Carved, Fault> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map(|fd| Carved::new(fd, ByteLen::ZERO))
        .map_err(|errno| fault(region, &format!("open {}", path.display()), errno))
}

/// Tells this appearance of the folder from an earlier one: sysfs gives it another inode each time the driver binds.
fn incarnation(folder: &Path) -> u64 {
    fs::metadata(folder).map_or(0, |metadata| metadata.ino())
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Every function below `sysfs` that has published its memory, with what it can hand out now.
///
/// A function that disappears while it is read is left out.
///
/// # Errors
/// When `bus/pci/devices` can't be listed at all; a machine without PCI has no such folder, and no regions.
pub fn discover(sysfs: &Path, rules: &Rules) -> std::io::Result<Vec<(RegionSpec, P2pmem)>> {
    let devices = sysfs.join("bus/pci/devices");
    let entries = match fs::read_dir(&devices) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(device) = entry.file_name().to_str().and_then(|name| name.parse::<PciAddress>().ok()) else {
            continue;
        };
        if !rules.ignore.contains(&device) {
            found.extend(inspect(entry.path().join("p2pmem"), device, rules));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(found)
}

fn inspect(folder: PathBuf, device: PciAddress, rules: &Rules) -> Option<(RegionSpec, P2pmem)> {
    if read_number(&folder.join("published"))? != 1 {
        return None;
    }
    // `available`, not `size`: the NVMe driver keeps its submission queues in the buffer.
    let available = ByteLen::new(read_number(&folder.join("available"))?);
    let plan = rules.plan_of(device);
    let size = match plan.amount {
        Amount::Nothing => available,
        Amount::All | Amount::AtMost(_) => plan.share_of(available),
    };
    let name = rules.names.get(&device).cloned().or_else(|| format!("p2pmem-{device}").parse().ok())?;
    let spec = RegionSpec {
        name,
        provider: ProviderKind::P2pmem,
        device: Some(device),
        incarnation: incarnation(&folder),
        shape: Shape::Pool,
        size,
        share: Some(plan.share()),
        alignment: pool::page(),
        method: Method::OnDemand,
        revocation: Revocation::Advisory,
        sharing: Sharing::Everyone,
        // What isn't held, nobody waits for.
        returns: if plan.amount == Amount::Nothing { Returns::AtOnce } else { Returns::InItsTime },
    };
    Some((spec, P2pmem { folder, plan }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(sysfs: &Path, address: &str, published: &str, available: &str) {
        let folder = sysfs.join("bus/pci/devices").join(address).join("p2pmem");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("published"), published).unwrap();
        fs::write(folder.join("available"), available).unwrap();
    }

    #[test]
    fn published_functions_become_regions() {
        let sysfs = tempfile::tempdir().unwrap();
        function(sysfs.path(), "0000:01:00.0", "1\n", "66977792\n");
        function(sysfs.path(), "0000:02:00.0", "0\n", "4096\n");
        function(sysfs.path(), "0000:03:00.0", "1\n", "8192\n");
        function(sysfs.path(), "0000:04:00.0", "1\n", "4096\n");
        function(sysfs.path(), "0000:05:00.0", "1\n", "rubbish\n");
        fs::create_dir_all(sysfs.path().join("bus/pci/devices/0000:06:00.0")).unwrap();
        let rules = Rules {
            ignore: ["0000:04:00.0".parse().unwrap()].into(),
            names: [("0000:03:00.0".parse().unwrap(), "cmb-b".parse().unwrap())].into(),
            ..Rules::default()
        };
        let found = discover(sysfs.path(), &rules).unwrap();
        let names: Vec<_> = found.iter().map(|(spec, _)| (spec.name.as_str(), spec.size.get())).collect();
        assert_eq!(names, [("cmb-b", 8192), ("p2pmem-0000:01:00.0", 66_977_792)]);
    }

    #[test]
    fn a_region_is_as_large_as_what_the_daemon_will_hold() {
        let sysfs = tempfile::tempdir().unwrap();
        for address in ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"] {
            function(sysfs.path(), address, "1", "65536");
        }
        let rules = Rules {
            plan: Plan { amount: Amount::All, leave: ByteLen::new(8192) },
            amounts: [
                ("0000:02:00.0".parse().unwrap(), Amount::AtMost(ByteLen::new(4096))),
                ("0000:03:00.0".parse().unwrap(), Amount::Nothing),
            ]
            .into(),
            ..Rules::default()
        };
        let found = discover(sysfs.path(), &rules).unwrap();
        assert_eq!(found.iter().map(|(spec, _)| spec.size.get()).collect::<Vec<_>>(), [57344, 4096, 65536]);
        let [.., (_, unheld)] = &found[..] else { panic!("three regions") };
        assert!(unheld.hold().unwrap().is_none());
    }

    #[test]
    fn no_pci_is_no_error() {
        assert!(discover(Path::new("/nonexistent"), &Rules::default()).unwrap().is_empty());
    }

    #[test]
    fn a_pool_that_others_use_up_says_so() {
        let sysfs = tempfile::tempdir().unwrap();
        function(sysfs.path(), "0000:01:00.0", "1", "8192");
        let (spec, source) = discover(sysfs.path(), &Rules::default()).unwrap().remove(0);
        function(sysfs.path(), "0000:01:00.0", "1", "4096");
        let fault = source.carve(&spec.name, ByteLen::new(8192)).unwrap_err().to_string();
        assert!(fault.contains("4KiB left for 8KiB") && fault.contains("outside of the daemon"), "{fault}");
    }
}
