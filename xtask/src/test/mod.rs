//! `cargo xtask test`: every check and test, on the host and in the guest.

mod guest;
mod host;
mod libtest;
mod report;
mod scenarios;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use report::Report;

/// Options of `test`.
#[derive(Debug, Args)]
pub(crate) struct TestOptions {
    /// Only what runs on this machine: fmt, clippy, doc, deny, package, image, manifests and the host's tests
    #[arg(long, conflicts_with = "guest_only")]
    host_only: bool,
    /// Only what runs in guest machines
    #[arg(long)]
    guest_only: bool,
    /// Only tests and checks whose name, or file's name, contains TEXT
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// Runs the tests; the last line says how many passed and failed.
///
/// # Errors
/// When the set-up fails; a test that fails is counted instead.
pub(crate) fn run(options: &TestOptions) -> Result<ExitCode> {
    let filter = options.filter.as_deref();
    let mut report = Report::default();
    if !options.guest_only {
        host::run(filter, &mut report)?;
    }
    if !options.host_only {
        guest::run(filter, &mut report)?;
    }
    Ok(report.finish())
}
