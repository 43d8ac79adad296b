//! The guest's drives: each a disk, and a Controller Memory Buffer (CMB) that the daemon serves as a region.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc::O_DIRECT;
use peermem_proto::{Initiator, PciAddress, RegionName};

/// One of them.
#[derive(Debug, Clone)]
pub struct Drive {
    /// Its serial number, by which the guest's profile names it.
    pub serial: String,
    /// Its PCI function.
    pub address: PciAddress,
    /// Its block device.
    pub disk: PathBuf,
}

impl Drive {
    /// The drive with this serial number.
    pub fn named(serial: &str) -> Self {
        Self::find(serial).unwrap_or_else(|| panic!("the guest has no drive {serial}"))
    }

    /// The same, if it is there and has its driver.
    pub fn find(serial: &str) -> Option<Self> {
        let attribute =
            |drive: &Path, name| Some(fs::read_to_string(drive.join(name)).ok()?.trim().to_owned());
        let drives = fs::read_dir("/sys/class/nvme").unwrap().map(|entry| entry.unwrap().path());
        let drive = drives.into_iter().find(|drive| attribute(drive, "serial").as_deref() == Some(serial))?;
        // What is on the disk will be overwritten.
        assert_eq!(attribute(&drive, "model")?, "QEMU NVMe Ctrl");
        let name = drive.file_name().unwrap().to_str().unwrap();
        Some(Self {
            serial: serial.to_owned(),
            address: attribute(&drive, "address")?.parse().unwrap(),
            disk: PathBuf::from(format!("/dev/{name}n1")),
        })
    }

    /// The port above it.
    pub fn port(&self) -> PciAddress {
        let device = fs::canonicalize(format!("/sys/bus/pci/devices/{}", self.address)).unwrap();
        device.parent().unwrap().file_name().unwrap().to_str().unwrap().parse().unwrap()
    }

    /// What the daemon calls its CMB.
    pub fn region(&self) -> RegionName {
        format!("p2pmem-{}", self.address).parse().unwrap()
    }

    /// The drive as a device that does DMA.
    pub fn initiator(&self) -> Initiator {
        Initiator::Pci(self.address)
    }

    /// The allocator of its CMB.
    pub fn allocator(&self) -> PathBuf {
        format!("/sys/bus/pci/devices/{}/p2pmem/allocate", self.address).into()
    }

    /// How many bytes of its CMB the kernel has left.
    pub fn available(&self) -> u64 {
        fs::read_to_string(self.allocator().with_file_name("available")).unwrap().trim().parse().unwrap()
    }

    /// Puts `bytes` on the disk, from `at` on.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        let disk = File::options().write(true).open(&self.disk).unwrap();
        disk.write_all_at(bytes, at).unwrap();
        disk.sync_all().unwrap();
    }

    /// What is on the disk, from `at` on.
    pub fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        File::open(&self.disk).unwrap().read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// The disk, opened for transfers without the page cache.
    pub fn direct(&self) -> File {
        File::options().read(true).write(true).custom_flags(O_DIRECT).open(&self.disk).unwrap()
    }
}
