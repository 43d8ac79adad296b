//! Where things are: the checkout, its build folder, and the programs cargo builds there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::command::run_logged;
use crate::progress::Step;

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

/// A cargo profile that programs are built with to be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CargoProfile {
    /// For users, and for benchmarks.
    Release,
    /// For the guest: built sooner.
    Guest,
}

impl CargoProfile {
    /// As `Cargo.toml` and cargo's build folder call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            CargoProfile::Release => "release",
            CargoProfile::Guest => "guest",
        }
    }

    /// Where its programs are.
    pub(crate) fn programs(self) -> PathBuf {
        target().join(self.name())
    }
}

/// A cargo command in the checkout.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Builds the programs of `packages`.
///
/// # Errors
/// When cargo fails, with its output.
pub(crate) fn build(profile: CargoProfile, packages: &[&str], step: &Step) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--profile", profile.name(), "--bins"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run_logged(&mut build, step, &log(&format!("{}-build", profile.name())))
}
