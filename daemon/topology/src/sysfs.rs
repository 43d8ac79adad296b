//! A snapshot from sysfs.
//!
//! What is read here is untrusted: reads are bounded, and what doesn't parse is an error that names its file. A device
//! may vanish at any moment, which is no error: it is left out.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use peermem_proto::{PciAddress, RdmaName};
use thiserror::Error;

use crate::{
    config_spaces::ConfigSpaces,
    cpu::Cpu,
    id::{PciId, RootBus},
    snapshot::{Attachment, Function, Snapshot},
    text::hex,
};

/// More than any sysfs attribute of interest is long.
const ATTRIBUTE_BYTES: u64 = 64;
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
    /// What `sysfs` (`/sys`) says now, with the ACS registers as far as `configs` or the privileges of the moment reach.
    /// A machine without PCI or without RDMA has none of them.
    ///
    /// # Errors
    /// When sysfs can't be read or holds something that isn't sysfs.
    pub fn read(sysfs: &Path, cpu: Option<Cpu>, configs: &ConfigSpaces) -> Result<Self, SysfsError> {
        let mut functions = BTreeMap::new();
        for address in pci_addresses(sysfs)? {
            if let Some(function) = unless_absent(read_function(sysfs, address, configs))? {
                functions.insert(address, function);
            }
        }
        let class = sysfs.join("class/infiniband");
        let mut rdma = BTreeMap::new();
        // A name that the protocol can't say can't be asked for either.
        for name in names(&class)?.iter().filter_map(|name| name.parse::<RdmaName>().ok()) {
            if let Some(path) = unless_absent(canonical(&class.join(name.as_str())))? {
                rdma.insert(name, attachment(&path));
            }
        }
        Ok(Self { cpu, functions, rdma })
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

fn read_function(sysfs: &Path, address: PciAddress, configs: &ConfigSpaces) -> Result<Function, SysfsError> {
    let link = pci_directory(sysfs, address);
    let path = canonical(&link)?;
    let (root, mut upstream) = place(&path).ok_or_else(|| {
        SysfsError::content(&link, "a path below a root bus, such as pci0000:00", &text(&path))
    })?;
    if upstream.pop() != Some(address) {
        return Err(SysfsError::content(&link, "a path that ends in the same address", &text(&path)));
    }
    Ok(Function {
        id: PciId { vendor: number(&path.join("vendor"))?, device: number(&path.join("device"))? },
        class: attribute(&path.join("class"), "a class code such as 0x010802", |text| text.parse().ok())?,
        // Attributes of PCI Express functions only: `pcie_dev_attrs_are_visible` in drivers/pci/pci-sysfs.c.
        express: path.join("max_link_speed").exists(),
        root,
        upstream,
        acs: configs.acs(address, &path.join("config")),
    })
}

/// The root bus and the functions below it on a path such as `/sys/devices/pci0000:00/0000:00:1c.0/0000:01:00.0`.
///
/// A root bus may itself lie below a PCI function (Intel VMD: `.../0000:00:0e.0/pci10000:e0/...`): the last one counts,
/// as for `pci_upstream_bridge`, which stops at a root bus.
fn place(path: &Path) -> Option<(RootBus, Vec<PciAddress>)> {
    let components: Vec<_> = path.iter().map(|component| component.to_str()).collect::<Option<_>>()?;
    let root_bus = |component: &str| component.strip_prefix("pci")?.parse::<RootBus>().ok();
    let last = components.iter().rposition(|component| root_bus(component).is_some())?;
    let functions =
        components[last + 1..].iter().map(|component| component.parse().ok()).collect::<Option<_>>()?;
    Some((root_bus(components[last])?, functions))
}

/// What the RDMA device at this path is attached to: the kernel puts devices without a parent below `devices/virtual`.
fn attachment(path: &Path) -> Attachment {
    let address = path.iter().rev().find_map(|component| component.to_str()?.parse().ok());
    match address {
        Some(address) => Attachment::Pci { address },
        None if path.iter().any(|component| component == "virtual") => Attachment::Software {},
        None => Attachment::Other {},
    }
}

fn unless_absent<T>(result: Result<T, SysfsError>) -> Result<Option<T>, SysfsError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_absence() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory; none when there is no such directory.
fn names(directory: &Path) -> Result<Vec<String>, SysfsError> {
    let io = |source| SysfsError::Io { path: directory.to_owned(), source };
    let Some(entries) = unless_absent(fs::read_dir(directory).map_err(io))? else { return Ok(Vec::new()) };
    entries.map(|entry| Ok(entry.map_err(io)?.file_name().to_string_lossy().into_owned())).collect()
}

fn canonical(link: &Path) -> Result<PathBuf, SysfsError> {
    fs::canonicalize(link).map_err(|source| SysfsError::Io { path: link.to_owned(), source })
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// An attribute's text, without the newline at its end, as what it should be.
fn attribute<T>(
    path: &Path,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, SysfsError> {
    let bytes = read_bytes(path, ATTRIBUTE_BYTES)?;
    let found = String::from_utf8_lossy(&bytes);
    parse(found.trim_end()).ok_or_else(|| SysfsError::content(path, expected, &found))
}

/// A vendor's or device's number, as sysfs writes it: `0x8086`.
fn number(path: &Path) -> Result<u16, SysfsError> {
    attribute(path, "a 16-bit number such as 0x8086", |text| {
        u16::try_from(hex(text.strip_prefix("0x")?, 4..=4)?).ok()
    })
}

/// The file's first bytes, at most `limit`.
fn read_bytes(path: &Path, limit: u64) -> Result<Vec<u8>, SysfsError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|source| SysfsError::Io { path: path.to_owned(), source })
}
