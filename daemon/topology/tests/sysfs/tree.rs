//! Small sysfs trees, composed by hand in a temporary directory, with the links that the kernel makes.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

pub(crate) const ROOT_PORT: u32 = 0x060400;
pub(crate) const NVME: u32 = 0x010802;
pub(crate) const ETHERNET: u32 = 0x020000;

pub(crate) struct Tree {
    directory: TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().unwrap();
        for class in ["bus/pci/devices", "class/infiniband"] {
            fs::create_dir_all(directory.path().join(class)).unwrap();
        }
        Self { directory }
    }

    pub(crate) fn sysfs(&self) -> &Path {
        self.directory.path()
    }

    /// A function at `path` below `/sys/devices`, whose last component is its address.
    pub(crate) fn function(
        &self,
        path: &str,
        (vendor, device): (u16, u16),
        class: u32,
        config: &[u8],
    ) -> PathBuf {
        let directory = self.sysfs().join("devices").join(path);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("vendor"), format!("{vendor:#06x}\n")).unwrap();
        fs::write(directory.join("device"), format!("{device:#06x}\n")).unwrap();
        fs::write(directory.join("class"), format!("{class:#08x}\n")).unwrap();
        fs::write(directory.join("config"), config).unwrap();
        if config.len() != 256 {
            fs::write(directory.join("max_link_speed"), "8.0 GT/s PCIe\n").unwrap();
        }
        self.link("bus/pci/devices", &directory, path);
        directory
    }

    /// An RDMA device at `path` below `/sys/devices`, whose last component is its name.
    pub(crate) fn rdma(&self, path: &str) {
        self.device("class/infiniband", path);
    }

    /// A device of that class or bus at `path` below `/sys/devices`, whose last component is its name.
    pub(crate) fn device(&self, class: &str, path: &str) -> PathBuf {
        let directory = self.sysfs().join("devices").join(path);
        fs::create_dir_all(&directory).unwrap();
        self.link(class, &directory, path);
        directory
    }

    fn link(&self, class: &str, directory: &Path, path: &str) {
        fs::create_dir_all(self.sysfs().join(class)).unwrap();
        let up = "../".repeat(Path::new(class).components().count());
        let target = Path::new(&up).join("devices").join(path);
        symlink(target, self.sysfs().join(class).join(directory.file_name().unwrap())).unwrap();
    }
}

/// The configuration space of a PCI Express function: AER, and behind it ACS when `acs` is given.
pub(crate) fn express(acs: Option<u16>) -> Vec<u8> {
    let mut space = vec![0; 4096];
    let aer = 0x0001 | 2 << 16 | if acs.is_some() { 0x148 << 20 } else { 0 };
    space[0x100..0x104].copy_from_slice(&u32::to_le_bytes(aer));
    if let Some(control) = acs {
        space[0x148..0x14c].copy_from_slice(&u32::to_le_bytes(0x000d | 1 << 16));
        space[0x14e..0x150].copy_from_slice(&control.to_le_bytes());
    }
    space
}

/// All that a process without `CAP_SYS_ADMIN` reads of one.
pub(crate) fn unprivileged() -> Vec<u8> {
    vec![0; 64]
}

/// The configuration space of a conventional PCI function.
pub(crate) fn conventional() -> Vec<u8> {
    vec![0; 256]
}
