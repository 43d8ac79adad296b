//! All that a guest boots from, made ready for one run.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::qemu::Files;
use super::{Machine, Profile};
use crate::guest::{Guest, Tree};
use crate::project;

/// How long a guest may take from QEMU's start until its devices are set up. It takes a tenth of
/// this on an idle machine of two cores.
const BOOT_TIMEOUT: Duration = Duration::from_secs(180);

/// A guest that is set up and has not booted. Must outlive the machines booted from it.
pub(crate) struct Prepared {
    /// The guest's hardware.
    pub profile: Profile,
    /// What is installed over its root; more can be added until it boots.
    pub tree: Tree,
    guest: Guest,
    folder: TempDir,
}

impl Prepared {
    /// Sets up whatever is missing, builds the product and installs it for a guest of `profile`.
    ///
    /// # Errors
    /// Says which step failed, and why.
    pub(crate) fn new(profile: &str) -> Result<Self> {
        let profile = Profile::load(profile)?;
        let guest = Guest::set_up()?;
        let folder = tempfile::Builder::new().prefix("peermem-vm-").tempdir()?;
        let tree = Tree::build(folder.path(), &guest, &profile)?;
        Ok(Prepared { profile, tree, guest, folder })
    }

    /// Boots the guest; its console goes to `console_log`, or to a file in the build folder.
    ///
    /// # Errors
    /// When the guest doesn't come up, with its console's last lines.
    pub(crate) fn boot(&self, console_log: Option<&Path>) -> Result<Machine> {
        let default = project::log("console");
        self.with_files(|files| {
            Machine::boot(&self.profile, files, console_log.unwrap_or(&default), BOOT_TIMEOUT)
        })
    }

    /// Makes the installed tree's image and the initramfs, and lends the paths of all that QEMU reads.
    ///
    /// # Errors
    /// Those of the image's making and of `body`.
    pub(crate) fn with_files<T>(&self, body: impl FnOnce(&Files<'_>) -> Result<T>) -> Result<T> {
        let image = self.folder.path().join("tree.ext4");
        self.tree.make_image(&image)?;
        let initramfs = self.folder.path().join("initramfs.cpio");
        self.guest.make_initramfs(&initramfs)?;
        body(&Files {
            kernel: &self.guest.kernel(),
            initramfs: &initramfs,
            root: &self.guest.root_image(),
            tree: &image,
            run: self.folder.path(),
        })
    }
}
