//! What the guest machine boots from: its root, kernel, initramfs, test module and the installed product.

mod full_vfio;
mod image;
mod initramfs;
mod install;
mod modules;
mod overlay;
mod sources;
mod suite_kernel;
mod test_gpu;

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Deserialize;

use crate::cache::{Cache, Entry};
use crate::host;

pub(crate) use install::Tree;
pub(crate) use test_gpu::TestGpu;

/// Which kernel a guest boots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kernel {
    /// The newest that Debian packages for the guest's release.
    #[default]
    Newest,
    /// The same with VFIO as Debian doesn't build it: with iommufd and no-IOMMU mode.
    FullVfio,
    /// The one that the release came with.
    Suite,
}

/// The parts of a guest that every run shares.
pub(crate) struct Guest {
    entry: Entry,
    /// What the guest boots instead of the root's own kernel.
    suite_kernel: Option<Entry>,
    /// What lies over the root where VFIO is built here.
    full_vfio: Option<PathBuf>,
    /// The test GPU's driver and the preload library that goes with it.
    pub test_gpu: TestGpu,
}

/// Sets up what guests with any kernel need.
///
/// # Errors
/// Says which step failed, and why.
pub(crate) fn set_up_all() -> Result<()> {
    [Kernel::FullVfio, Kernel::Suite].into_iter().try_for_each(|kernel| Guest::set_up(kernel).map(drop))
}

impl Guest {
    /// Sets up whatever a guest with this kernel needs and is missing on this machine or in the cache.
    ///
    /// # Errors
    /// Says which step failed, and why.
    pub(crate) fn set_up(kernel: Kernel) -> Result<Self> {
        let release = host::Release::detect()?;
        host::install_missing()?;
        let cache = Cache::open()?;
        let mirror = || host::mirror(&release.codename);
        let entry = cache.entry("guest", &image::key(), |folder| image::make(folder, &mirror()?))?;
        let suite_kernel = match kernel {
            Kernel::Newest | Kernel::FullVfio => None,
            Kernel::Suite => Some(
                cache
                    .entry("kernel", &suite_kernel::key(), |folder| suite_kernel::make(folder, &mirror()?))?,
            ),
        };
        let full_vfio = (kernel == Kernel::FullVfio).then(|| full_vfio::build(&entry.path)).transpose()?;
        let test_gpu = TestGpu::build(&entry.path)?;
        Ok(Guest { entry, suite_kernel, full_vfio, test_gpu })
    }

    /// The root file system as a folder, never written to.
    fn root(&self) -> PathBuf {
        self.entry.path.join(image::ROOT)
    }

    /// The root file system, ext4, never written to.
    pub(crate) fn root_image(&self) -> PathBuf {
        self.entry.path.join(image::ROOT_IMAGE)
    }

    /// The kernel.
    pub(crate) fn kernel(&self) -> PathBuf {
        self.kernel_entry().path.join(image::KERNEL)
    }

    /// The modules of a kernel that isn't the root's own, ext4: what the guest has in `/usr/lib/modules`.
    pub(crate) fn modules_image(&self) -> Option<PathBuf> {
        self.suite_kernel.as_ref().map(|entry| entry.path.join(suite_kernel::MODULES_IMAGE))
    }

    /// Makes the initramfs that finds the root.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub(crate) fn make_initramfs(&self, to: &Path) -> Result<()> {
        let [root, kernel_root] =
            [&self.entry, self.kernel_entry()].map(|entry| entry.path.join(image::ROOT));
        initramfs::make(&root, &kernel_root, to)
    }

    fn kernel_entry(&self) -> &Entry {
        self.suite_kernel.as_ref().unwrap_or(&self.entry)
    }
}
