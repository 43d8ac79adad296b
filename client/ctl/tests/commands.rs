//! The commands against a running daemon with emulated memory.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::pty::{Winsize, openpty};
use peermem::proto::{Event, LeaseEnd, Region, status::Status};
use rustix::process::Signal;
use support::{Daemon, end, eventually, failure, signal};

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

/// What a command prints on a terminal of that width.
fn on_a_terminal(columns: u16, mut command: Command) -> String {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(Some(&size), None).unwrap();
    let mut process = command.stdout(terminal.slave).spawn().unwrap();
    // It holds the last copy of the terminal's other end, without which reading fails.
    drop(command);
    let mut text = Vec::new();
    let read = File::from(terminal.master).read_to_end(&mut text);
    assert!(read.is_err_and(|error| error.raw_os_error() == Some(nix::libc::EIO)));
    assert_eq!(end(&mut process), 0);
    String::from_utf8(text).unwrap()
}

#[test]
fn what_a_terminal_is_too_narrow_for_is_shown_field_by_field() {
    let daemon = Daemon::start();
    let (_first, lease) = daemon.holding(&[]);
    let (_second, _) = daemon.holding(&[]);
    let leases = |columns| {
        let mut command = support::ctl(&daemon.socket);
        command.arg("leases");
        on_a_terminal(columns, command)
    };
    let (wide, narrow) = (leases(200), leases(80));
    let row = wide.lines().find(|line| line.trim_start().starts_with(&lease.id.to_string())).unwrap();
    assert!(row.contains("bidirectional") && row.contains(&format!("pid {}", lease.owner.pid)), "{wide}");
    assert!(narrow.lines().any(|line| line == "direction   bidirectional"), "{narrow}");
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert_eq!(narrow.split("\r\n\r\n").count(), 2, "a stanza a lease: {narrow}");
}

#[test]
fn status_says_why_a_config_does_not_count() {
    let daemon = Daemon::start();
    let reload = |config: &str| {
        std::fs::write(daemon.config(), config).unwrap();
        daemon.reload();
    };
    assert!(daemon.text(&["status"]).contains("counts as it was last read"));
    reload("[limits]\nleases = 0\n");
    eventually("the daemon refuses it", || daemon.json(&["status"])["config_refused"].is_string());
    let text = daemon.text(&["status"]);
    for part in ["the one before", "peermemd.toml:2:1", "unknown field `leases`", "2 | leases = 0"] {
        assert!(text.contains(part), "{part} isn't in {text}");
    }
    reload("");
    eventually("the daemon takes it", || daemon.json(&["status"])["config_refused"].is_null());
}

#[test]
fn a_lease_is_held_until_the_pipe_closes() {
    let daemon = Daemon::start();
    let (mut process, lease) = daemon.holding(&[]);
    assert_eq!(lease.length.get(), 64 << 10);
    assert_eq!(daemon.leases(), [lease]);
    drop(process.process.stdin.take());
    assert_eq!(process.end(), 0);
    assert!(daemon.leases().is_empty());
}

#[test]
fn signals_give_the_lease_back() {
    let daemon = Daemon::start();
    for by in [Signal::INT, Signal::TERM, Signal::HUP] {
        let (mut process, _) = daemon.holding(&[]);
        signal(&process.process, by);
        assert_eq!(process.end(), 0, "after {by:?}");
        assert!(daemon.leases().is_empty(), "after {by:?}");
    }
}

#[test]
fn time_gives_the_lease_back() {
    let daemon = Daemon::start();
    let (mut process, _) = daemon.holding(&["--for", "5"]);
    // The pipe's end means nothing when a time is given.
    drop(process.process.stdin.take());
    assert_eq!(daemon.leases().len(), 1);
    assert_eq!(process.end(), 0);
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_killed_holder_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let (mut process, _) = daemon.holding(&[]);
    signal(&process.process, Signal::KILL);
    process.process.wait().unwrap();
    eventually("the daemon takes the lease back", || daemon.leases().is_empty());
}

#[test]
fn a_holder_notices_the_daemons_death() {
    let mut daemon = Daemon::start();
    let (process, _) = daemon.holding(&["--patience", "0"]);
    daemon.end(Signal::KILL);
    let (exit, code, message) = process.failure();
    assert_eq!((exit, code.as_str()), (3, "unreachable"), "{message}");
}

#[test]
fn the_watcher_sees_a_lease_come_and_go() {
    let daemon = Daemon::start();
    let mut watcher = daemon.command(&["watch"]).stdout(Stdio::piped()).spawn().unwrap();
    let (tell, heard) = mpsc::channel();
    let lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    eventually("the watcher watches", || {
        daemon.holding(&["--for", "0"]).0.end();
        heard.try_recv().is_ok()
    });
    let (mut process, lease) = daemon.holding(&["--for", "0"]);
    assert_eq!(process.end(), 0);
    let next = || loop {
        let line = heard.recv_timeout(Duration::from_secs(60)).unwrap();
        let event: Event = serde_json::from_str(&line).unwrap();
        if let Event::LeaseGranted { lease: of } | Event::LeaseEnded { lease: of, .. } = &event
            && of.id == lease.id
        {
            return event;
        }
    };
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
