//! The real daemon on a socket of its own, and the real command.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

/// `peermemd --emulate 1MiB`, killed when dropped.
pub struct Daemon {
    process: Child,
    pub socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("peermemd.sock");
        let process = Command::new(peermemd())
            .args(["--emulate", "1MiB", "--log", "error", "--socket"])
            .arg(&socket)
            .spawn()
            .unwrap();
        let daemon = Self { process, socket, _folder: folder };
        eventually("the daemon listens", || daemon.ctl(&["status"]).status.success());
        daemon
    }

    /// The command, told where this daemon is, with JSON wanted.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = ctl(&self.socket);
        command.arg("--json").args(arguments);
        command
    }

    /// Runs the command to its end.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What the command prints as JSON; it must succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.ctl(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ends the daemon without a word.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `peermemctl --socket SOCKET`
pub fn ctl(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peermemctl"));
    command.arg("--socket").arg(socket).stdin(Stdio::null()).env_remove("NO_COLOR");
    command
}

/// A failed command's exit code, and its error's code and message out of the JSON.
pub fn failure(output: &Output) -> (i32, String, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    let error: Value = serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{output:?}"));
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (output.status.code().unwrap(), text("error"), text("message"))
}

pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// How a process ends, within bounds.
pub fn end(process: &mut Child) -> i32 {
    let mut status = None;
    eventually("the command ends", || {
        status = process.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap().code().expect("an exit code, not a signal")
}

/// The daemon's binary beside the command's, made anew: cargo builds another package's binary for no test.
fn peermemd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_peermemctl")).parent().unwrap();
        let profile = match folder.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "peermemd", "--profile", profile, "--target-dir"]);
        build.arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(build.status().unwrap().success(), "peermemd doesn't build");
        folder.join("peermemd")
    })
}
