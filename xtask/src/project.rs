//! Where things are: the checkout, its build folder, and the programs cargo builds there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::shown;

/// The checkout's root folder.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Cargo's build folder.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Where the log of the step `name` goes.
pub(crate) fn log(name: &str) -> PathBuf {
    target().join("xtask").join(format!("{name}.log"))
}

/// Where programs built for the guest are.
pub(crate) fn guest_programs() -> PathBuf {
    target().join("guest")
}

/// A cargo command in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds `packages` for the guest, with cargo's own progress on standard error.
///
/// # Errors
/// When cargo fails; it has said why.
pub(crate) fn build_for_guest(packages: &[&str]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--quiet", "--profile", "guest", "--bins"]);
    for package in packages {
        build.args(["--package", package]);
    }
    let status = build.stdin(Stdio::null()).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(&build));
    }
    Ok(())
}
