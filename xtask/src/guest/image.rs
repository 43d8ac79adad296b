//! The guest's root file system and kernel, made from Debian packages.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::cache;
use crate::command::{run_fetching, run_logged};
use crate::progress::Step;
use crate::project;

use super::modules;

/// The root as a folder, in which the test kernel module is built.
pub(super) const ROOT: &str = "root";
/// The same root as an image, from which guests boot.
pub(super) const ROOT_IMAGE: &str = "root.ext4";
/// The kernel.
pub(super) const KERNEL: &str = "vmlinuz";
/// The kernel's source as Debian packs it, which no guest has.
pub(super) const SOURCE: &str = "linux-source.tar.xz";

/// Debian release of the guest.
pub(super) const SUITE: &str = "trixie";
/// Where the kernel comes from: the newest that Debian packages for that release.
const KERNEL_SUITE: &str = "trixie-backports";
/// Raised when the root is made differently from the same packages.
const RECIPE: u32 = 2;

/// What the guest has beside the product.
const PACKAGES: &[&str] = &[
    // The system.
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "kmod",
    "iproute2",
    "procps",
    "busybox-static",
    // RDMA and its outside clients.
    "rdma-core",
    "ibverbs-providers",
    "ibverbs-utils",
    "rdmacm-utils",
    "perftest",
    // Drives and device memory.
    "nvme-cli",
    "fio",
    "ndctl",
    "pciutils",
    // What a person wants at hand, and what tests call.
    "strace",
    "curl",
    "prometheus",
    // Build the test kernel module for exactly this kernel.
    "gcc-14",
    "make",
    "libc6-dev",
];

/// Packages taken from [`KERNEL_SUITE`], by their meta-packages since versions move on.
const KERNEL_PACKAGES: &[&str] = &["linux-image-amd64", "linux-headers-amd64", "linux-source"];

/// Files of packages that no guest reads.
pub(super) const LEFT_OUT: &[&str] = &[
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
    "/usr/lib/modules/*/kernel/sound/*",
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
];

/// The cache key: all that the root is made from.
pub(super) fn key() -> String {
    cache::key(&(SUITE, KERNEL_SUITE, PACKAGES, KERNEL_PACKAGES, LEFT_OUT, RECIPE))
}

/// Fills `folder` with root, image and kernel, from the packages of `mirror`.
///
/// # Errors
/// When a step fails, with its output.
pub(super) fn make(folder: &Path, mirror: &str) -> Result<()> {
    let root = folder.join(ROOT);
    let step = Step::new(format!("Guest root: Debian {SUITE}, kernel of {KERNEL_SUITE}"));
    let log = project::log("mmdebstrap");
    run_fetching(&mut bootstrap(&root, mirror), &step, &log, || cache::remove_tree(&root))?;
    step.done();

    let release = kernel_release(&root)?;
    let step = Step::new(format!("Guest image, Linux {release}"));
    modules::decompress(&root, &release, &step)?;
    fs::rename(root.join(format!("boot/vmlinuz-{release}")), folder.join(KERNEL))?;
    fs::rename(only_entry(&root.join("usr/src"), "linux-source-")?, folder.join(SOURCE))?;
    make_ext4(&root, &folder.join(ROOT_IMAGE), &step)?;
    step.done();
    Ok(())
}

fn bootstrap(root: &Path, mirror: &str) -> Command {
    let include = PACKAGES
        .iter()
        .map(ToString::to_string)
        .chain(KERNEL_PACKAGES.iter().map(|name| format!("{name}/{KERNEL_SUITE}")));
    let mut mmdebstrap = Command::new("mmdebstrap");
    // Tells the kernel package not to make an initramfs: the guest has its own.
    mmdebstrap.env("INITRD", "No");
    mmdebstrap.args(["--mode=root", "--variant=apt"]);
    mmdebstrap.args(LEFT_OUT.iter().map(|files| format!("--dpkgopt=path-exclude={files}")));
    mmdebstrap.arg(format!("--include={}", include.collect::<Vec<_>>().join(",")));
    mmdebstrap.arg(SUITE).arg(root);
    mmdebstrap.args([SUITE, KERNEL_SUITE].map(|suite| source(mirror, suite)));
    mmdebstrap
}

/// The apt source of a suite.
pub(super) fn source(mirror: &str, suite: &str) -> String {
    format!("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror} {suite} main")
}

/// The one kernel installed in `root`.
pub(super) fn kernel_release(root: &Path) -> Result<String> {
    let folder = only_entry(&root.join(modules::FOLDER), "")?;
    Ok(folder.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// What is the one thing in `folder` whose name begins with `prefix`.
fn only_entry(folder: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("cannot list {}", folder.display()))?;
    let named =
        |path: &&PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let found: Vec<_> = entries.iter().filter(named).collect();
    ensure!(found.len() == 1, "{} holds {found:?}, not one `{prefix}*`", folder.display());
    Ok(found[0].clone())
}

/// Makes an ext4 image of `tree`. Without a journal: it is only ever read.
///
/// # Errors
/// When `mke2fs` fails, with its output.
pub(super) fn make_ext4(tree: &Path, image: &Path, step: &Step) -> Result<()> {
    /// Sparse, so what isn't used costs nothing.
    const BYTES: u64 = 8 << 30;
    File::create(image)?.set_len(BYTES)?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(tree).arg(image);
    run_logged(&mut mke2fs, step, &project::log("mke2fs"))
}
