//! What the guest machine boots from: its root, kernel, initramfs, test module and the installed product.

mod image;
mod initramfs;
mod install;
mod modules;
mod test_gpu;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cache::{Cache, Entry};
use crate::host;

pub(crate) use install::Tree;
pub(crate) use test_gpu::TestGpu;

/// The parts of a guest that every run shares.
pub(crate) struct Guest {
    entry: Entry,
    /// The test GPU's driver and the preload library that goes with it.
    pub test_gpu: TestGpu,
}

impl Guest {
    /// Sets up whatever is missing on this machine and in the cache.
    ///
    /// # Errors
    /// Says which step failed, and why.
    pub(crate) fn set_up() -> Result<Self> {
        let release = host::Release::detect()?;
        host::install_missing()?;
        let cache = Cache::open()?;
        let entry = cache
            .entry("guest", &image::key(), |folder| image::make(folder, &host::mirror(&release.codename)?))?;
        let test_gpu = TestGpu::build(&entry.path)?;
        Ok(Guest { entry, test_gpu })
    }

    /// The root file system, ext4, never written to.
    pub(crate) fn root_image(&self) -> PathBuf {
        self.entry.path.join(image::ROOT_IMAGE)
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.entry.path.join(image::KERNEL)
    }

    /// Makes the initramfs that finds the root.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub(crate) fn make_initramfs(&self, to: &Path) -> Result<()> {
        initramfs::make(&self.entry.path.join(image::ROOT), to)
    }
}
