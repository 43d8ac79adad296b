//! `cargo xtask vm run`: a script in a fresh guest.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::{Output, Prepared, profile};
use crate::project::CargoProfile;

/// Where the guest has the script.
const SCRIPT: &str = "usr/libexec/peermem-vm/script";

/// Options of `vm run`.
#[derive(Debug, Args)]
pub(crate) struct RunOptions {
    /// Guest profile (`cargo xtask vm profiles` lists them)
    #[arg(long, value_name = "PROFILE", default_value = profile::DEFAULT)]
    machine: String,
    /// Seconds that the script may take
    #[arg(long, value_name = "SECS", default_value_t = 900)]
    timeout: u64,
    /// Install the programs as users get them, which takes minutes to build
    #[arg(long)]
    release: bool,
    /// Keep the guest's console in FILE
    #[arg(long, value_name = "FILE")]
    keep_console: Option<PathBuf>,
    /// Run these commands instead of a script
    #[arg(short = 'c', value_name = "COMMANDS", conflicts_with = "script")]
    commands: Option<String>,
    /// The script, for bash, and its arguments; `-` reads it from standard input
    #[arg(
        required_unless_present = "commands",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_names = ["SCRIPT", "ARGS"]
    )]
    script: Vec<String>,
}

/// Boots a guest, runs the script and ends with its status: 124 when it took too long, 125 when the
/// guest failed, 130 after Ctrl-C.
///
/// # Errors
/// When the set-up fails, or the guest does before the script runs.
pub(crate) fn run(options: &RunOptions) -> Result<ExitCode> {
    let script = options.script_text()?;
    let programs = if options.release { CargoProfile::Release } else { CargoProfile::Guest };
    let prepared = Prepared::new(&options.machine, programs)?;
    prepared.tree.install(script.as_bytes(), SCRIPT, 0o755)?;
    let mut machine = prepared.boot(options.keep_console.as_deref())?;

    let script = format!("/{SCRIPT}");
    let mut argv = vec!["/bin/bash", &script];
    argv.extend(options.script.iter().skip(1).map(String::as_str));
    let result = machine.run(&argv, Duration::from_secs(options.timeout), to_own_output);
    Ok(machine.conclude(result))
}

impl RunOptions {
    fn script_text(&self) -> Result<String> {
        match (&self.commands, self.script.first().map(String::as_str)) {
            (Some(commands), _) => Ok(commands.clone()),
            (None, None | Some("-")) => {
                io::read_to_string(io::stdin()).context("cannot read the script from standard input")
            }
            (None, Some(file)) => {
                fs::read_to_string(file).with_context(|| format!("cannot read the script {file}"))
            }
        }
    }
}

/// Passes a piece of the guest's output on at once.
///
/// A reader that is gone (`| head`) isn't the script's fault and doesn't stop it.
pub(crate) fn to_own_output(stream: Output, bytes: &[u8]) {
    let _ = match stream {
        Output::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Output::Stderr => io::stderr().write_all(bytes),
    };
}
