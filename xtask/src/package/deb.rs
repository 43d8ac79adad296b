//! The Debian package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command::{run_captured, run_logged};
use crate::host::Tool;
use crate::progress::Step;
use crate::project::{self, CargoProfile};

use super::{MANIFEST_OF, Product, only_file};

const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0" };

/// Makes it.
///
/// # Errors
/// When cargo-deb fails, with its output.
pub(super) fn make(product: &Product, step: &Step) -> Result<PathBuf> {
    let (folder, profile) = (product.fresh_folder("deb")?, product.profile);
    let mut deb = Command::new(CARGO_DEB.find()?);
    deb.current_dir(project::root());
    deb.args(["--package", MANIFEST_OF, "--profile", profile.name(), "--no-build", "--locked", "--output"]);
    deb.arg(&folder);
    if profile == CargoProfile::Guest {
        deb.arg("--fast");
    }
    run_logged(&mut deb, step, &project::log("cargo-deb"))?;
    only_file(&folder)
}

/// Has lintian look for faults, beyond those that `deploy/deb/lintian-overrides` gives a reason for.
///
/// # Errors
/// When it finds one, with its words.
pub(super) fn check(package: &Path, step: &Step) -> Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--display-info", "--fail-on", "none"]).arg(package);
    let log = project::log("lintian");
    let (output, finished) = run_captured(&mut lintian, step, &log)?;
    ensure!(finished, "lintian couldn't look at {}: see {}", package.display(), log.display());
    // Some overrides are of what some builds have and others don't, and lintian can't be told to bear that.
    let faults: Vec<_> = output.lines().filter(|line| is_fault(line) && !line.contains(UNUSED)).collect();
    ensure!(faults.is_empty(), "{} has faults:\n    {}", package.display(), faults.join("\n    "));
    Ok(())
}

/// The tag of an override that nothing needed.
const UNUSED: &str = ": unused-override ";

/// Whether lintian calls this an error, a warning or a remark (`E: peermem: tag what`).
fn is_fault(line: &str) -> bool {
    ["E: ", "W: ", "I: "].iter().any(|severity| line.starts_with(severity))
}
