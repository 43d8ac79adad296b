//! The RPM.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::command::{output_of, run_logged};
use crate::host::Tool;
use crate::progress::Step;
use crate::project;

use super::{MANIFEST_FOLDER, Product, only_file};

const CARGO_GENERATE_RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1" };

/// Makes it.
///
/// # Errors
/// When cargo-generate-rpm fails, with its output.
pub(super) fn make(product: &Product, step: &Step) -> Result<PathBuf> {
    let folder = product.fresh_folder("rpm")?;
    let mut rpm = Command::new(CARGO_GENERATE_RPM.find()?);
    rpm.current_dir(project::root());
    rpm.args([
        "generate-rpm",
        "--package",
        MANIFEST_FOLDER,
        "--profile",
        product.profile.name(),
        "--target-dir",
    ])
    .arg(project::target());
    rpm.arg("--output").arg(&folder);
    run_logged(&mut rpm, step, &project::log("cargo-generate-rpm"))?;
    only_file(&folder)
}

/// Where units are.
const UNITS: &str = "/usr/lib/systemd/system/";

/// Has rpm itself read the package and install it into a folder: what users need must be there, a shell must understand the
/// scriptlets, and no unit may stay enabled when it is removed. The scriptlets' commands belong to another distribution, and aren't run.
///
/// # Errors
/// When rpm can't read or install it, and when something is missing.
pub(super) fn check(package: &Path) -> Result<()> {
    let query =
        |format: &str| output_of(Command::new("rpm").args(["-qp", "--queryformat", format]).arg(package));
    for scriptlet in ["%{PREIN}", "%{POSTIN}", "%{PREUN}", "%{POSTUN}"] {
        output_of(Command::new("sh").args(["-n", "-c", &query(scriptlet)?]))?;
    }
    let root = tempfile::tempdir().context("cannot make a folder to install into")?;
    let mut install = Command::new("rpm");
    install
        .args(["--install", "--force-debian", "--nodeps", "--noscripts", "--root"])
        .arg(root.path())
        .arg(package);
    output_of(&mut install)?;
    let removed = query("%{PREUN}")?;
    let files = query("[%{FILENAMES}\n]")?;
    for unit in files.lines().filter_map(|file| file.strip_prefix(UNITS)) {
        ensure!(removed.contains(unit), "{unit} stays enabled when {} is removed", package.display());
    }
    for file in ["usr/bin/peermemd", "usr/bin/peermemctl", &format!("{UNITS}peermemd.service")[1..]] {
        ensure!(root.path().join(file).is_file(), "{} has no {file}, only:\n{files}", package.display());
    }
    Ok(())
}
