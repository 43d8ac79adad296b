//! The commands against a running daemon with emulated memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
};

use peermem::proto::{Event, Lease, LeaseEnd, Region, status::Status};
use rustix::process::Signal;
use support::{Daemon, end, eventually, failure, signal};

/// `peermemctl map` of 64 KiB, once it has printed its lease.
fn holding(daemon: &Daemon, more: &[&str]) -> (Child, Lease) {
    let arguments = [&["map", "emulated", "--initiator", "emulated", "--size", "64KiB"], more].concat();
    let mut command = daemon.command(&arguments);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (process, serde_json::from_str(&line).unwrap())
}

fn leases(daemon: &Daemon) -> Vec<Lease> {
    serde_json::from_value(daemon.json(&["leases"])).unwrap()
}

#[test]
fn status_and_regions_say_emulated() {
    let daemon = Daemon::start();
    let status: Status = serde_json::from_value(daemon.json(&["status"])).unwrap();
    assert!(status.emulation && status.regions == 1 && status.leases == 0, "{status:?}");
    let regions: Vec<Region> = serde_json::from_value(daemon.json(&["regions"])).unwrap();
    assert!(matches!(&regions[..], [region] if region.emulated && region.name.as_str() == "emulated"));
    for command in ["status", "regions"] {
        let output = support::ctl(&daemon.socket).arg(command).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("emulated"), "{text}");
        assert!(!text.contains('\x1b'), "colours outside a terminal: {text:?}");
    }
}

#[test]
fn a_lease_is_held_until_the_pipe_closes() {
    let daemon = Daemon::start();
    let (mut process, lease) = holding(&daemon, &[]);
    assert_eq!(lease.length.get(), 64 << 10);
    assert_eq!(leases(&daemon), [lease]);
    drop(process.stdin.take());
    assert_eq!(end(&mut process), 0);
    assert!(leases(&daemon).is_empty());
}

#[test]
fn signals_give_the_lease_back() {
    let daemon = Daemon::start();
    for by in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut process, _) = holding(&daemon, &[]);
        signal(&process, by);
        assert_eq!(end(&mut process), 0, "after {by:?}");
        assert!(leases(&daemon).is_empty(), "after {by:?}");
    }
}

#[test]
fn time_gives_the_lease_back() {
    let daemon = Daemon::start();
    let (mut process, _) = holding(&daemon, &["--for", "1"]);
    // The pipe's end means nothing when a time is given.
    drop(process.stdin.take());
    assert_eq!(leases(&daemon).len(), 1);
    assert_eq!(end(&mut process), 0);
    assert!(leases(&daemon).is_empty());
}

#[test]
fn a_killed_holder_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let (mut process, _) = holding(&daemon, &[]);
    process.kill().unwrap();
    process.wait().unwrap();
    eventually("the daemon takes the lease back", || leases(&daemon).is_empty());
}

#[test]
fn a_holder_notices_the_daemons_death() {
    let mut daemon = Daemon::start();
    let (mut process, _) = holding(&daemon, &[]);
    daemon.kill();
    assert_eq!(end(&mut process), 3);
}

#[test]
fn the_watcher_sees_a_lease_come_and_go() {
    let daemon = Daemon::start();
    let mut watcher = daemon.command(&["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the watcher is connected", || {
        daemon.json(&["status"])["connections"].as_u64().is_some_and(|count| count >= 3)
    });
    let (mut process, lease) = holding(&daemon, &["--for", "0"]);
    assert_eq!(end(&mut process), 0);
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Event>(&lines.next().unwrap().unwrap()).unwrap();
    assert!(matches!(next(), Event::LeaseGranted { lease: granted } if granted == lease));
    let Event::LeaseEnded { lease: ended, reason } = next() else { panic!("no end of the lease") };
    assert_eq!((ended, reason), (lease, LeaseEnd::Unmapped));
    watcher.kill().unwrap();
    watcher.wait().unwrap();
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let daemon = Daemon::start();
    for arguments in [&["regions"][..], &["status"], &["completions", "bash"], &["man"]] {
        let (reading, writing) = std::io::pipe().unwrap();
        drop(reading);
        let output = support::ctl(&daemon.socket).args(arguments).stdout(writing).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert!(output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn verify_wants_an_rdma_device() {
    let daemon = Daemon::start();
    let arguments = ["verify", "--connect", "127.0.0.1:1", "--region", "emulated", "--initiator", "emulated"];
    let (exit, code, message) = failure(&daemon.ctl(&arguments));
    assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
}

#[test]
fn completions_and_manual_pages_need_no_daemon() {
    let print = |arguments: &[&str]| {
        let mut command = support::ctl("/nonexistent".as_ref());
        let mut text = String::new();
        let mut process = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(end(&mut process), 0);
        text
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(print(&["completions", shell]).contains("peermemctl"));
    }
    assert!(print(&["man"]).contains(".TH peermemctl 1"));
    assert!(print(&["man", "map"]).contains(".TH peermemctl-map 1"));
}
