//! Debian packages of the machine itself.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{output_of, run_fetching, run_logged};
use crate::progress::Step;
use crate::project;

/// What xtask, the builds and the tests use, each with a file that an older version may lack.
const PACKAGES: &[(&str, Option<&str>)] = &[
    // Runs the guest.
    ("qemu-system-x86", None),
    // Makes its root; the keyring must know the guest's release, which is newer than some hosts'.
    ("mmdebstrap", None),
    ("debian-archive-keyring", Some("/usr/share/keyrings/debian-archive-trixie-stable.gpg")),
    ("e2fsprogs", None),
    ("xz-utils", None),
    // Build the preload library, and check our declarations against the real headers.
    ("gcc", None),
    ("make", None),
    ("libc6-dev", None),
    ("libibverbs-dev", None),
    // Find the libraries that a package depends on, and judge the packages.
    ("dpkg-dev", None),
    ("lintian", None),
    ("rpm", None),
    // Builds the container image, and runs what is in it.
    ("buildah", None),
    // Installs what judges the manifests.
    ("python3-pip", None),
];

/// Installs what is missing; asks the mirror only then.
///
/// # Errors
/// When apt fails, with its output.
pub(crate) fn install_missing() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let step = Step::new(format!("Debian packages: {}", missing.join(", ")));
    let log = project::log("apt");
    // A fresh machine has no package lists, an old one stale ones: both fail, and then need the update.
    if run_logged(&mut install(&missing), &step, &log).is_err() {
        run_fetching(Command::new("apt-get").arg("update"), &step, &log, || Ok(()))?;
        run_fetching(&mut install(&missing), &step, &log, || Ok(()))?;
    }
    step.done();
    Ok(())
}

fn install(packages: &[&str]) -> Command {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    apt.args(["install", "--yes", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=300"]).args(packages);
    apt
}

fn missing() -> Result<Vec<&'static str>> {
    let installed = output_of(
        Command::new("dpkg-query").args(["--show", "--showformat=${db:Status-Status} ${Package}\\n"]),
    )
    .context("cannot list the installed packages")?;
    let installed: Vec<&str> = installed.lines().filter_map(|line| line.strip_prefix("installed ")).collect();
    let complete = |name: &str, file: Option<&str>| {
        installed.contains(&name) && file.is_none_or(|file| Path::new(file).exists())
    };
    Ok(PACKAGES.iter().filter(|(name, file)| !complete(name, *file)).map(|(name, _)| *name).collect())
}
