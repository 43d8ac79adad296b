//! The real daemon, on a socket of its own: it can be killed, and started again over what it left.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

#[path = "../../../tests/built.rs"]
mod built;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// `peermemd --emulate 1MiB`, killed when dropped.
pub struct Daemon {
    process: Child,
    pub socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Daemon {
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// With `config` beside the emulated region.
    pub fn with_config(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("peermemd.toml"), config).unwrap();
        let process = spawn(folder.path());
        let daemon = Self { process, socket: folder.path().join("peermemd.sock"), folder };
        daemon.wait_until_it_listens();
        daemon
    }

    /// Ends the daemon without a word (`KILL`), or has it end by itself (`TERM`).
    pub fn end(&mut self, by: Signal) {
        kill_process(Pid::from_child(&self.process), by).unwrap();
        self.process.wait().unwrap();
    }

    /// The config that it reads.
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("peermemd.toml")
    }

    /// Has it read its config again.
    pub fn reload(&self) {
        kill_process(Pid::from_child(&self.process), Signal::HUP).unwrap();
    }

    /// Starts it again, after its end.
    pub fn start_again(&mut self) {
        self.process = spawn(self.folder.path());
        self.wait_until_it_listens();
    }

    /// Has the next daemon know nothing of what this one has granted.
    pub fn forget(&self) {
        std::fs::remove_file(self.folder.path().join("leases.journal")).unwrap();
    }

    fn wait_until_it_listens(&self) {
        eventually("the daemon listens", || std::os::unix::net::UnixStream::connect(&self.socket).is_ok());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn spawn(folder: &Path) -> Child {
    let mut command = Command::new(peermemd());
    command.args(["--emulate", "1MiB", "--log", "error", "--config"]).arg(folder.join("peermemd.toml"));
    command.arg("--socket").arg(folder.join("peermemd.sock")).spawn().unwrap()
}

/// The daemon's binary beside this test's.
fn peermemd() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| built::program("peermemd", &beside_programs()))
}

/// An example of this package, likewise.
pub fn example(name: &str) -> PathBuf {
    built::example("peermem", name, &beside_programs())
}

/// TARGET/PROFILE/deps, where this test is: the programs are beside it.
fn beside_programs() -> String {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().to_str().unwrap().to_owned()
}
