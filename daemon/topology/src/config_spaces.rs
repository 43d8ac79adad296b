//! Configuration spaces held open, so that ACS stays readable after the privileges are gone.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

use peermem_proto::PciAddress;

use crate::{
    acs::{Acs, AcsControl},
    config::{CONVENTIONAL_SIZE, ConfigUnreadable, acs_capability, acs_control},
    sysfs::{SysfsError, pci_addresses, pci_directory},
};

/// Where each function has its ACS control register, with the file to read it from.
///
/// Past its first 64 bytes, a function's `config` file answers only those who had `CAP_SYS_ADMIN` when they *opened*
/// it (`pci_read_config` in `drivers/pci/pci-sysfs.c` asks `file_ns_capable`). So: open this while privileged, drop the
/// capability, and go on reading live registers. Only functions that have an ACS capability cost a file descriptor.
#[derive(Debug, Default)]
pub struct ConfigSpaces {
    known: BTreeMap<PciAddress, ConfigSpace>,
}

#[derive(Debug)]
struct ConfigSpace {
    /// Tells the function that was looked at from another that was plugged into its place: kernfs numbers its files
    /// cyclically, so that a number doesn't come back soon (`fs/kernfs/dir.c`).
    inode: u64,
    acs: Option<AcsRegister>,
}

#[derive(Debug)]
struct AcsRegister {
    config: File,
    capability: u16,
}

impl ConfigSpaces {
    /// Looks into every function below `sysfs` (`/sys`). Without `CAP_SYS_ADMIN` it learns about conventional PCI
    /// functions only; the others' ACS stays [`Acs::Unreadable`].
    ///
    /// # Errors
    /// When the functions can't be listed. One that vanishes meanwhile is left out.
    pub fn open(sysfs: &Path) -> Result<Self, SysfsError> {
        let spaces = pci_addresses(sysfs)?.into_iter().filter_map(|address| {
            let space = ConfigSpace::open(&pci_directory(sysfs, address).join("config")).ok()?;
            Some((address, space))
        });
        Ok(Self { known: spaces.collect() })
    }

    /// The ACS of the function whose `config` file this is, now. A function that wasn't there when this was opened is
    /// tried with the privileges of the moment.
    pub(crate) fn acs(&self, address: PciAddress, config: &Path) -> Acs {
        let inode = fs::metadata(config).map(|metadata| metadata.ino()).ok();
        let control = match self.known.get(&address).filter(|space| Some(space.inode) == inode) {
            Some(space) => space.control(),
            None => ConfigSpace::open(config).and_then(|space| space.control()),
        };
        match control {
            Ok(Some(control)) => Acs::Control(control),
            Ok(None) => Acs::Absent,
            Err(ConfigUnreadable) => Acs::Unreadable,
        }
    }
}

impl ConfigSpace {
    fn open(path: &Path) -> Result<Self, ConfigUnreadable> {
        let config = File::open(path).map_err(|_| ConfigUnreadable)?;
        let metadata = config.metadata().map_err(|_| ConfigUnreadable)?;
        let inode = metadata.ino();
        // The file's size is the kernel's own answer to whether there is extended space (`cfg_size`).
        if metadata.len() == u64::from(CONVENTIONAL_SIZE) {
            return Ok(Self { inode, acs: None });
        }
        let capability = acs_capability(|offset| dword(&config, offset))?;
        Ok(Self { inode, acs: capability.map(|capability| AcsRegister { config, capability }) })
    }

    fn control(&self) -> Result<Option<AcsControl>, ConfigUnreadable> {
        let Some(register) = &self.acs else { return Ok(None) };
        acs_control(register.capability, |offset| dword(&register.config, offset))
            .map(|control| Some(AcsControl::new(control)))
    }
}

fn dword(config: &File, offset: u16) -> Option<u32> {
    let mut bytes = [0; 4];
    config.read_exact_at(&mut bytes, u64::from(offset)).ok()?;
    Some(u32::from_le_bytes(bytes))
}
