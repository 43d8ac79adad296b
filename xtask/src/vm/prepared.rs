//! All that a guest boots from, made ready for one run.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::qemu::Files;
use super::{Machine, Profile};
use crate::guest::{Guest, Tree};
use crate::progress::Step;
use crate::project::{self, CargoProfile};

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
    /// Sets up whatever is missing, builds the product by `programs` and installs it for a guest of `profile`.
    ///
    /// # Errors
    /// Says which step failed, and why.
    pub(crate) fn new(profile: &str, programs: CargoProfile) -> Result<Self> {
        let profile = Profile::load(profile)?;
        let guest = Guest::set_up(profile.kernel)?;
        let folder = tempfile::Builder::new().prefix("peermem-vm-").tempdir()?;
        let tree = Tree::build(folder.path(), &guest, &profile, programs)?;
        Ok(Prepared { profile, tree, guest, folder })
    }

    /// Boots the guest; its console goes to `console_log`, or to a file in the build folder.
    ///
    /// # Errors
    /// When the guest doesn't come up, with its console's last lines.
    pub(crate) fn boot(&self, console_log: Option<&Path>) -> Result<Machine> {
        let default = project::log("console");
        let step = Step::new(format!("Boot of guest `{}`", self.profile.name));
        let files = self.make_files(&step)?;
        let machine = Machine::boot(&self.profile, &files, console_log.unwrap_or(&default), BOOT_TIMEOUT)?;
        step.done();
        Ok(machine)
    }

    /// Makes the installed tree's image, the initramfs and the drives; names all that QEMU reads.
    ///
    /// # Errors
    /// When one of them can't be made.
    pub(super) fn make_files(&self, step: &Step) -> Result<Files> {
        let run = self.folder.path().to_owned();
        let (tree, initramfs) = (run.join("tree.ext4"), run.join("initramfs.cpio"));
        self.tree.make_image(&tree, step)?;
        self.guest.make_initramfs(&initramfs)?;
        let files = Files {
            kernel: self.guest.kernel(),
            initramfs,
            root: self.guest.root_image(),
            tree,
            modules: self.guest.modules_image(),
            run,
        };
        files.make_drives(&self.profile)?;
        Ok(files)
    }
}
