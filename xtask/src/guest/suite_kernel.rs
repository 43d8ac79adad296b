//! The kernel that the guest's Debian release came with, beside the root's newer one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cache;
use crate::command::run_fetching;
use crate::progress::Step;
use crate::project;

use super::image::{self, KERNEL, LEFT_OUT, ROOT, SUITE};
use super::modules;

/// The modules' image, which is mounted over the folder of the root's own.
pub(super) const MODULES_IMAGE: &str = "modules.ext4";

/// The kernel by its meta-package, and what makes its root one that `depmod` runs in.
const PACKAGES: &str = "base-files,linux-image-amd64";

/// The kernel's build configuration, in its modules' folder as `kernel-install(8)` has it: that folder is what the guest
/// gets of this kernel.
const CONFIG: &str = "config";

/// The cache key: all that the kernel is made from.
pub(super) fn key() -> String {
    cache::key(&(SUITE, PACKAGES, LEFT_OUT, CONFIG))
}

/// Fills `folder` with the kernel, a root that holds its modules, and their image.
///
/// # Errors
/// When a step fails, with its output.
pub(super) fn make(folder: &Path, mirror: &str) -> Result<()> {
    let root = folder.join(ROOT);
    let step = Step::new(format!("Kernel of Debian {SUITE}"));
    let mut mmdebstrap = Command::new("mmdebstrap");
    // Nothing of it is installed: the packages are only unpacked.
    mmdebstrap.args(["--mode=root", "--variant=extract", "--include", PACKAGES]);
    mmdebstrap.args(LEFT_OUT.iter().map(|files| format!("--dpkgopt=path-exclude={files}")));
    mmdebstrap.arg(SUITE).arg(&root).arg(image::source(mirror, SUITE));
    run_fetching(&mut mmdebstrap, &step, &project::log("mmdebstrap-kernel"), || cache::remove_tree(&root))?;

    let release = image::kernel_release(&root)?;
    modules::decompress(&root, &release, &step)?;
    fs::rename(root.join(format!("boot/vmlinuz-{release}")), folder.join(KERNEL))?;
    let config = root.join(modules::FOLDER).join(&release).join(CONFIG);
    fs::copy(root.join(format!("boot/config-{release}")), config)?;
    image::make_ext4(&root.join(modules::FOLDER), &folder.join(MODULES_IMAGE), &step)?;
    step.done();
    Ok(())
}
