//! A snapshot from sysfs.
//!
//! What is read here is untrusted: reads are bounded, and where the verdict depends on it, what doesn't parse is an error
//! that names its file. Details that don't parse are left out. A device may vanish at any moment, which is no error.

pub(crate) mod bars;
mod classes;
pub(crate) mod file;
mod function;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use peermem_proto::{PciAddress, RdmaName};
use thiserror::Error;

use self::file::{names, read_bytes, unless_absent};
use crate::{
    bus_address::bus_address_of_bar, config_spaces::ConfigSpaces, cpu::Cpu, function::Function,
    snapshot::Snapshot,
};

/// More than one processor takes in `/proc/cpuinfo`; the file as a whole grows with the number of processors.
const CPUINFO_BYTES: u64 = 16 * 1024;
/// `ENODEV`: what reading an attribute ends with when its device goes meanwhile.
const ENODEV: i32 = 19;

/// What went wrong in reading sysfs.
#[derive(Debug, Error)]
pub enum SysfsError {
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{} should hold {expected}, and holds {found:?}", path.display())]
    Content {
        /// The file, or the path that a link leads to.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
        /// What is there, shortened.
        found: String,
    },
}

impl SysfsError {
    fn content(path: &Path, expected: &'static str, found: &str) -> Self {
        Self::Content { path: path.to_owned(), expected, found: found.chars().take(40).collect() }
    }

    /// Whether it only says that the device is gone.
    fn is_absence(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(ENODEV))
    }
}

impl Snapshot {
    /// What the kernel's verdict depends on, as `sysfs` (`/sys`) says now, with the ACS registers as far as `configs` or
    /// the privileges of the moment reach. A machine without PCI or without RDMA has none of them.
    ///
    /// # Errors
    /// When sysfs can't be read or holds something that isn't sysfs.
    pub fn read(sysfs: &Path, cpu: Option<Cpu>, configs: &ConfigSpaces) -> Result<Self, SysfsError> {
        let mut functions = BTreeMap::new();
        for address in pci_addresses(sysfs)? {
            if let Some(function) = unless_absent(function::read(sysfs, address, configs))? {
                functions.insert(address, function);
            }
        }
        Ok(Self { cpu, functions, rdma: classes::rdma(sysfs)?, ..Self::default() })
    }

    /// [`Snapshot::read`] and all else that people want to know, which takes some twenty files more for each function.
    ///
    /// # Errors
    /// As for [`Snapshot::read`]: what can't be read of the rest is left out.
    pub fn read_in_full(sysfs: &Path, cpu: Option<Cpu>, configs: &ConfigSpaces) -> Result<Self, SysfsError> {
        let mut snapshot = Self::read(sysfs, cpu, configs)?;
        for (&address, function) in &mut snapshot.functions {
            function.details = function::details(&pci_directory(sysfs, address));
        }
        bus_addresses(sysfs, &mut snapshot);
        let network = |name: &RdmaName| (name.clone(), classes::network(sysfs, name));
        snapshot.networks = snapshot.rdma.keys().map(network).collect();
        snapshot.nvme = classes::nvme(sysfs);
        snapshot.nodes = classes::nodes(sysfs);
        snapshot.dax = classes::dax(sysfs);
        Ok(snapshot)
    }
}

/// Finds where BARs are on the bus.
fn bus_addresses(sysfs: &Path, snapshot: &mut Snapshot) {
    let whole = &*snapshot;
    let of_function = |(&address, function): (&PciAddress, &Function)| {
        let bars = function.details.bars.iter();
        bars.map(|bar| bus_address_of_bar(sysfs, whole, address, bar.index).ok()).collect::<Vec<_>>()
    };
    let found: Vec<_> = whole.functions.iter().flat_map(of_function).collect();
    let bars = snapshot.functions.values_mut().flat_map(|function| &mut function.details.bars);
    for (bar, address) in bars.zip(found) {
        bar.bus_address = address;
    }
}

impl Cpu {
    /// The first processor that `/proc/cpuinfo` names, if it is an x86.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(cpuinfo: &Path) -> Result<Option<Self>, SysfsError> {
        read_bytes(cpuinfo, CPUINFO_BYTES).map(|bytes| Self::from_cpuinfo(&String::from_utf8_lossy(&bytes)))
    }
}

/// Every PCI function's directory in sysfs, which is a link to its place in the tree.
pub(crate) fn pci_directory(sysfs: &Path, address: PciAddress) -> PathBuf {
    sysfs.join("bus/pci/devices").join(address.to_string())
}

/// The addresses of all PCI functions.
pub(crate) fn pci_addresses(sysfs: &Path) -> Result<Vec<PciAddress>, SysfsError> {
    let directory = sysfs.join("bus/pci/devices");
    let parse = |name: &String| {
        name.parse()
            .map_err(|_| SysfsError::content(&directory, "only PCI addresses, such as 0000:3b:00.0", name))
    };
    names(&directory)?.iter().map(parse).collect()
}
