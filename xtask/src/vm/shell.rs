//! `cargo xtask vm shell`: a root prompt in a fresh guest.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};

use super::Prepared;
use super::qemu::{self, Mode};
use crate::progress::{Step, say};
use crate::project::CargoProfile;

/// Boots a guest of `profile` and connects its console to the terminal until its shell ends.
///
/// # Errors
/// When there is no terminal, the set-up fails or QEMU can't start.
pub(crate) fn shell(profile: &str) -> Result<ExitCode> {
    ensure!(
        std::io::stdin().is_terminal() && std::io::stdout().is_terminal(),
        "a shell needs a terminal; `cargo xtask vm run SCRIPT` doesn't"
    );
    let prepared = Prepared::new(profile, CargoProfile::Guest)?;
    let size = rustix::termios::tcgetwinsize(std::io::stdout())?;
    let kind = std::env::var("TERM").unwrap_or_else(|_| "vt220".into());
    let terminal = format!("TERM='{kind}'\nROWS={}\nCOLUMNS={}\n", size.ws_row, size.ws_col);
    prepared.tree.install(terminal.as_bytes(), "etc/peermem-vm/terminal", 0o644)?;
    let step = Step::new("Image of the installed tree");
    let files = prepared.make_files(&step)?;
    step.done();
    say("the prompt comes in about 15 s; leave with `exit`, or Ctrl-A X for a guest that hangs");
    let status =
        qemu::command(&prepared.profile, &files, Mode::Shell).status().context("cannot start QEMU")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::from(125) })
}
