//! The daemon as it is installed: run by systemd, with a config of the scenario's own.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use peermem::{CallFailed, Client, proto::varlink::CallError};
use peermem_proto::{Refusal, Region};
use serde_json::Value;

use crate::{
    command::{json, put_back, run},
    drive::Drive,
    wait::until,
};

/// Its unit.
pub const UNIT: &str = "peermemd.service";
/// The unit of its socket, which would start it again for whoever connects.
pub const SOCKET_UNIT: &str = "peermemd.socket";
/// The sockets of the journal namespace that the unit wants: they stop with it.
const AUDIT_SOCKETS: &str = "systemd-journald@peermem.socket systemd-journald-varlink@peermem.socket";
/// Where it serves.
pub const SOCKET: &str = "/run/peermemd/peermemd.sock";
/// Where it is scraped, with [`CONFIG`].
pub const METRICS: &str = "http://127.0.0.1:9489/metrics";
/// What it reads.
const CONFIG_PATH: &str = "/etc/peermemd/peermemd.toml";

/// A config that takes the test GPU's buffers for device memory.
pub const CONFIG: &str = r#"
[metrics]
listen = "127.0.0.1:9489"

[registered]
exporters = ["peermem_testgpu"]
"#;

/// The daemon, until dropped: it is stopped then, and the config is as it was.
#[derive(Debug)]
pub struct Daemon {
    _config: Config,
}

impl Daemon {
    /// Starts it with [`CONFIG`], which returns when it is ready.
    pub fn start() -> Self {
        Self::start_with(Some(CONFIG))
    }

    /// Starts it with this config, or without any.
    pub fn start_with(config: Option<&str>) -> Self {
        let config = Config::put(config);
        assert_ne!(property("ActiveState"), "active", "an earlier scenario left the daemon running");
        // systemd counts starts, and refuses the sixth in ten seconds, of the sockets too that come and go with the daemon. Every
        // scenario has one of its own.
        run(&format!("systemctl reset-failed {SOCKET_UNIT} {UNIT} {AUDIT_SOCKETS}; systemctl start {UNIT}"));
        Self { _config: config }
    }

    /// Its process, the only one of the unit's control group.
    pub fn pid(&self) -> u32 {
        let group = format!("/sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs");
        fs::read_to_string(group).unwrap().trim().parse().unwrap()
    }

    /// A new connection to it.
    pub fn client(&self) -> Client {
        Client::connect_to(SOCKET).unwrap()
    }

    /// A drive's pool, as the daemon lists it.
    pub fn pool(&self, drive: &Drive) -> Region {
        let regions = self.client().regions().unwrap();
        let region = regions.into_iter().find(|region| region.name == drive.region());
        region.unwrap_or_else(|| panic!("{} isn't listed", drive.region()))
    }

    /// Waits until every byte of a drive's pool can be leased and the daemon has it.
    pub fn waits_for_all_of(&self, drive: &Drive) {
        until(&format!("all of {} is back", drive.region()), || {
            let pool = self.pool(drive);
            (pool.free == pool.size && pool.missing.is_zero() && drive.available() == 0).then_some(())
        });
    }

    /// What its open descriptors lead to, in no order.
    pub fn descriptors(&self) -> Vec<PathBuf> {
        let fds = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        // One that is closed meanwhile is none.
        fds.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok()).collect()
    }

    /// The same once they stay as they are. Until then, some may be of connections that the scenario itself has just closed, or of what
    /// only the start needed; neither tells of its end by an event.
    pub fn descriptors_at_rest(&self) -> Vec<PathBuf> {
        /// How long nothing may change.
        const REST: Duration = Duration::from_millis(300);
        // Its start is over when it answers.
        self.client().status().unwrap();
        until("the daemon's descriptors stay as they are", || {
            let before = self.descriptors();
            thread::sleep(REST);
            (self.descriptors() == before).then_some(before)
        })
    }

    /// A sample of its metrics, by its name and labels, as Prometheus would read it now. The config must be [`CONFIG`], or have its
    /// `listen`.
    pub fn metric(&self, sample: &str) -> Option<f64> {
        let text = run(&format!("curl --silent --fail {METRICS}"));
        let value = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }

    /// How many of its open descriptors are dma-bufs.
    pub fn dmabufs(&self) -> usize {
        self.descriptors().iter().filter(|target| target.to_string_lossy().starts_with("/dmabuf:")).count()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        put_back(&format!("systemctl stop {SOCKET_UNIT} {UNIT}"));
    }
}

/// The daemon's *no* to a call.
pub fn refusal<T: std::fmt::Debug>(outcome: Result<T, CallFailed>) -> Refusal {
    match outcome {
        Err(CallFailed::Answered(CallError::Refusal(refusal))) => refusal,
        other => panic!("no refusal: {other:?}"),
    }
}

/// What the unit writes to the journal from now on.
#[derive(Debug)]
pub struct Journal {
    since: Duration,
}

impl Journal {
    /// From now on.
    pub fn begin() -> Self {
        // What was sent before is of before, also where journald hasn't taken it yet.
        run("journalctl --sync");
        Self { since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap() }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> Vec<Value> {
        self.entries_of("")
    }

    /// The same of the journal that `option` of journalctl chooses.
    pub fn entries_of(&self, option: &str) -> Vec<Value> {
        let since = self.since.as_micros();
        let since = format!("@{}.{:06}", since / 1_000_000, since % 1_000_000);
        // Of a process that has ended already, journald may not find out which unit it was of.
        let of_unit = format!("_SYSTEMD_UNIT={UNIT} + UNIT={UNIT} + SYSLOG_IDENTIFIER=peermemd");
        let show = format!("journalctl {option} --output=json --since={since} {of_unit}");
        run(&format!("journalctl {option} --sync && {show}")).lines().map(json).collect()
    }
}

/// What systemd says of the unit.
pub fn property(name: &str) -> String {
    run(&format!("systemctl show --value --property={name} {UNIT}")).trim().to_owned()
}

/// A config in the place of the installed one, which comes back.
#[derive(Debug)]
pub struct Config {
    installed: Option<Vec<u8>>,
}

impl Config {
    /// Puts this config there, or takes the installed one away.
    pub fn put(text: Option<&str>) -> Self {
        let path = Path::new(CONFIG_PATH);
        let installed = path.exists().then(|| fs::read(path).unwrap());
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None if installed.is_some() => fs::remove_file(path).unwrap(),
            None => {}
        }
        Self { installed }
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let done = match &self.installed {
            Some(bytes) => fs::write(CONFIG_PATH, bytes),
            None => fs::remove_file(CONFIG_PATH),
        };
        if let Err(error) = done {
            eprintln!("{CONFIG_PATH} isn't as it was: {error}");
        }
    }
}
