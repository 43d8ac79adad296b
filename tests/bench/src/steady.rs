//! The daemon, traced while others transfer.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use peermem::Client;
use peermem_bench::{Goal, Row};

use crate::{ctl, wait::until};

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);
/// How long the daemon may take to come to rest: the clients go on for longer than this and [`WATCHED`].
const SETTLED: Duration = Duration::from_secs(40);
/// What two clients hold: each both ends.
const LEASES: usize = 4;

pub(crate) fn run() -> Result<()> {
    let mut clients = Vec::new();
    for _ in 0..2 {
        // One message at a time for 30 s, then many for 30 s: longer than settling and watching take.
        let mut command = ctl::bench("write", &["--sizes=64KiB", "--duration=30"])?;
        clients.push(Transferring(command.stdout(Stdio::null()).spawn()?));
    }
    until("the clients lease", SETTLED, || Ok(Client::connect()?.leases()?.len() >= LEASES))?;
    let pid =
        ctl::succeed(Command::new("systemctl").args(["show", "--value", "--property=MainPID", "peermemd"]))?;
    // The threads that zeroed memory for the leases end when they have had nothing to do for 10 s.
    let threads = format!("/proc/{}/task", pid.trim());
    until("the daemon is at rest", SETTLED, || Ok(fs::read_dir(&threads)?.count() == 1))?;

    let trace = std::env::temp_dir().join("peermemd.strace");
    let mut strace = Command::new("timeout");
    strace.args(["--signal=INT", &WATCHED.as_secs().to_string(), "strace", "-f", "-o"]).arg(&trace);
    // Ends by the signal.
    strace.args(["-p", pid.trim()]).stderr(Stdio::null()).status().context("can't start strace")?;
    let trace = fs::read_to_string(&trace).context("strace wrote nothing")?;
    ensure!(!trace.is_empty(), "strace saw no thread of the daemon's");
    for client in &mut clients {
        ensure!(client.0.try_wait()?.is_none(), "a client ended early");
    }
    // A call that had begun before, and goes on, has no result.
    let finished: Vec<_> = trace.lines().filter(|line| line.contains(" = ")).collect();
    for line in &finished {
        eprintln!("{line}");
    }
    let count = finished.len() as f64;
    Row::new("system calls of the daemon in 10 s, two clients transferring", count, "calls")
        .goal(Goal::AtMost(0.0))
        .print();
    Ok(())
}

/// Ended when dropped.
struct Transferring(Child);

impl Drop for Transferring {
    fn drop(&mut self) {
        // The daemon takes its leases back.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
