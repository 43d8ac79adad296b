//! systemd's file-descriptor store, with the real systemd: profile `switch`, as root.
#![allow(clippy::unwrap_used)]

use std::{
    env,
    fs::{self, File},
    io::Write,
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    process::Command,
};

use peermem_scenarios::{
    command::{put_back, succeed},
    wait::until,
};
use peermemd::fd_store::FdStore;
use rustix::process::{Signal, getpid, kill_process};

const UNIT: &str = "peermem-fd-store";

/// How often the service is killed.
const KILLS: usize = 9;

/// Where each life of the service writes a line: the names that it got back.
const REPORT: &str = "PEERMEM_TEST_REPORT";

/// The service, stopped when dropped.
struct Service;

impl Service {
    /// This program again, as a unit of its own that starts anew whenever it is killed.
    fn start(role: &str, report: &Path) -> Self {
        let mut command = Command::new("systemd-run");
        command.args([&format!("--unit={UNIT}"), &format!("--setenv={REPORT}={}", report.display())]);
        command.args(["--property=FileDescriptorStoreMax=32", "--property=NotifyAccess=main"]);
        command.args(["--property=Restart=on-failure", "--property=RestartSec=0"]);
        command.arg("--property=StartLimitIntervalSec=0").arg(env::current_exe().unwrap());
        succeed(command.args(["--exact", role, "--ignored", "--nocapture"]));
        Self
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It is gone where it has ended by itself.
        put_back(&format!("systemctl stop {UNIT} 2> /dev/null || true"));
    }
}

#[test]
fn the_fd_store_has_what_was_put_right_before_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    let _service = Service::start("role_of_a_service_that_is_killed", &report);
    let lives = until("the service has been killed often enough", || {
        let report = fs::read_to_string(&report).ok()?;
        (report.lines().count() > KILLS).then_some(report)
    });
    for (number, life) in lives.lines().enumerate() {
        let expected: Vec<_> = (0..number).map(|earlier| format!("region-{earlier}")).collect();
        assert_eq!(life, expected.join(" "), "{lives}");
    }
}

/// Stores one descriptor in each life, and dies before anything else can happen.
#[test]
#[ignore = "the service in another test"]
fn role_of_a_service_that_is_killed() {
    let (store, passed) = FdStore::from_environment().unwrap();
    assert_eq!(store.capacity(), Some(32));
    let mut names: Vec<_> = passed.stored.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let path = env::var_os(REPORT).expect("another test starts this one");
    let mut report = File::options().create(true).append(true).open(&path).unwrap();
    let life = fs::read_to_string(&path).unwrap().lines().count();
    for (name, fd) in &passed.stored {
        let mut content = [0; 64];
        let length = File::from(fd.try_clone().unwrap()).read_at(&mut content, 0).unwrap();
        assert_eq!(&content[..length], name.as_str().as_bytes());
    }
    report.write_all((names.join(" ") + "\n").as_bytes()).unwrap();
    if life == KILLS {
        return;
    }
    let name = format!("region-{life}");
    let memory = tempfile::tempfile().unwrap();
    memory.write_all_at(name.as_bytes(), 0).unwrap();
    store.put(&name.parse().unwrap(), memory.as_fd()).unwrap();
    kill_process(getpid(), Signal::KILL).unwrap();
}
