//! A daemon to measure: the release build, on a socket and a journal of its own.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::machine::folder_in_memory;

/// The region that it serves: host memory, so that it needs no device.
pub(crate) const REGION: &str = "emulated";

/// Nothing here may wait for its turn, and nobody's lease may end for want of time.
const CONFIG: &str = "\
[limits]
connections_per_user = 100000
requests_per_second_per_user = 1000000000
leases_per_user = 1000000
[leases]
resume_grace_secs = 3600
[p2pmem]
enabled = false
[[emulated]]
name = \"emulated\"
size = \"64GiB\"
";

/// Longer than a start takes that is worth waiting for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon, killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    folder: TempDir,
    start: Duration,
}

impl Daemon {
    /// Starts one and waits until it says READY.
    pub(crate) fn start() -> Result<Self> {
        Self::start_in(folder_in_memory()?)
    }

    /// The same in a folder that may have a journal.
    pub(crate) fn start_in(folder: TempDir) -> Result<Self> {
        let config = folder.path().join("peermemd.toml");
        fs::write(&config, CONFIG)?;
        let notify = folder.path().join("notify.sock");
        // A daemon that ran here before had one too.
        let _ = fs::remove_file(&notify);
        let ready = UnixDatagram::bind(&notify)?;
        ready.set_read_timeout(Some(PATIENCE))?;
        let began = Instant::now();
        let child = Command::new(binary()?)
            .arg("--config")
            .arg(config)
            .arg("--socket")
            .arg(socket_in(folder.path()))
            .env("NOTIFY_SOCKET", notify)
            .env_remove("JOURNAL_STREAM")
            .env_remove("PEERMEMD_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start peermemd")?;
        // From here on it is killed whatever happens.
        let mut daemon = Self { child, folder, start: Duration::ZERO };
        let mut message = [0; 256];
        loop {
            let length = ready.recv(&mut message).context("peermemd didn't say READY")?;
            if message[..length].starts_with(b"READY=1") {
                break;
            }
        }
        daemon.start = began.elapsed();
        Ok(daemon)
    }

    /// How long it took from the start of its process to READY.
    pub(crate) fn start_time(&self) -> Duration {
        self.start
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket_in(self.folder.path())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its memory that is resident, in bytes.
    pub(crate) fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number =
            line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS in its status")?;
        Ok(number.parse::<f64>()? * 1024.0)
    }

    /// The processor time that it has had, user's and kernel's, to the tick of the clock.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // Behind the name, which may hold anything, from the third field on (proc_pid_stat(5)): utime is the 14th, stime the next.
        let (_, fields) = stat.rsplit_once(')').context("no name in its stat")?;
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_secs(1) * u32::try_from(ticks)?
            / u32::try_from(rustix::param::clock_ticks_per_second())?)
    }

    /// Kills it, as a crash would, and keeps its folder.
    pub(crate) fn kill(mut self) -> Result<TempDir> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(std::mem::replace(&mut self.folder, folder_in_memory()?))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a daemon in `folder` has its journal.
pub(crate) fn journal_in(folder: &Path) -> PathBuf {
    folder.join("leases.journal")
}

fn socket_in(folder: &Path) -> PathBuf {
    folder.join("peermemd.sock")
}

/// The daemon that was built beside this program.
pub(crate) fn binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("peermemd");
    if !path.exists() {
        bail!("{} isn't there: build it with `cargo build --release --package peermemd`", path.display());
    }
    Ok(path)
}
