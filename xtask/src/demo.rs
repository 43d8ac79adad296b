//! `cargo xtask demo`: the daemon under systemd in a guest, and two programs that move bytes through it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::progress::say;
use crate::project::{self, CargoProfile};
use crate::vm::{DEFAULT_PROFILE, Prepared, to_own_output};

/// The script, in the checkout and in the guest.
const SCRIPT: &str = "tests/demo/demo.sh";
const INSTALLED: &str = "usr/libexec/peermem-tests/demo.sh";

/// How long the demo may take, most of it under emulation.
const TIMEOUT: Duration = Duration::from_secs(600);

/// Boots a guest, starts the daemon and runs the demo's script; ends with its status.
///
/// # Errors
/// When the set-up fails or the guest doesn't come up.
pub(crate) fn demo() -> Result<ExitCode> {
    let prepared = Prepared::new(DEFAULT_PROFILE, CargoProfile::Guest)?;
    prepared.tree.install_file(&project::root().join(SCRIPT), INSTALLED, 0o755)?;
    let mut machine = prepared.boot(None)?;
    say("starting peermemd and the demo in the guest");
    let commands = format!("systemctl start peermemd && exec /{INSTALLED}");
    let result = machine.run(&["/bin/bash", "-c", &commands], TIMEOUT, to_own_output);
    Ok(machine.conclude(result))
}
