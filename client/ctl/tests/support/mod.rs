//! The real daemon on a socket of its own, and the real command.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

#[path = "../../../tests/support/real.rs"]
pub mod real;

use std::{
    io::{BufRead, BufReader, Lines},
    ops::{Deref, DerefMut},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use peermem::proto::Lease;
pub use real::eventually;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The real daemon, and commands that are told where it is.
pub struct Daemon(real::Daemon);

impl Deref for Daemon {
    type Target = real::Daemon;

    fn deref(&self) -> &real::Daemon {
        &self.0
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut real::Daemon {
        &mut self.0
    }
}

impl Daemon {
    pub fn start() -> Self {
        Self(real::Daemon::start())
    }

    pub fn with_config(config: &str) -> Self {
        Self(real::Daemon::with_config(config))
    }

    /// The command, with JSON wanted.
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

    /// What the command prints for people; it must succeed.
    pub fn text(&self, arguments: &[&str]) -> String {
        let output = ctl(&self.socket).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn leases(&self) -> Vec<Lease> {
        serde_json::from_value(self.json(&["leases"])).unwrap()
    }

    /// `peermemctl map` of 64 KiB, once it has printed its lease.
    pub fn holding(&self, more: &[&str]) -> (Holder, Lease) {
        self.holder(&[&["map", "emulated", "--initiator", "emulated", "--size", "64KiB"], more].concat())
    }

    /// A command that holds a lease, once it has printed it.
    pub fn holder(&self, arguments: &[&str]) -> (Holder, Lease) {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut holder = Holder { process, lines };
        let lease = serde_json::from_value(holder.next_line()).unwrap();
        (holder, lease)
    }
}

/// A command that holds a lease; killed when dropped.
pub struct Holder {
    pub process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Holder {
    /// The next that it prints.
    pub fn next_line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    /// How it ends.
    pub fn end(&mut self) -> i32 {
        end(&mut self.process)
    }

    /// How it ends: exit code, stable code, message.
    pub fn failure(mut self) -> (i32, String, String) {
        let exit = self.end();
        let mut stderr = self.process.stderr.take().unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut text).unwrap();
        let (code, message) = error(text.as_bytes());
        (exit, code, message)
    }
}

impl Drop for Holder {
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
    let (code, message) = error(&output.stderr);
    (output.status.code().unwrap(), code, message)
}

fn error(stderr: &[u8]) -> (String, String) {
    let error: Value =
        serde_json::from_slice(stderr).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(stderr)));
    let text = |key: &str| error[key].as_str().unwrap().to_owned();
    (text("error"), text("message"))
}

pub fn signal(process: &Child, signal: Signal) {
    kill_process(Pid::from_child(process), signal).unwrap();
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
