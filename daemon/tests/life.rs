//! Starting, stopping, and what is in the way of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    thread,
};

use serde_json::json;
use support::{Client, Daemon, run_to_end};

#[test]
fn sigterm_drains_and_leaves_nothing_behind() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let _lease = client.map(4096);
    let mut idle = daemon.connect();
    idle.assert_alive();
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(client.receive().is_none() && idle.receive().is_none(), "a connection outlived the daemon");
    assert!(!daemon.socket().exists(), "the socket's file is still there");
}

#[test]
fn a_reply_that_is_on_its_way_is_delivered() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    client.assert_alive();
    // More replies than the socket holds: the daemon is in the middle of them when it is told to stop.
    let call = br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.peermem.Broker"}}"#;
    for _ in 0..200 {
        client.send(call, vec![]);
    }
    daemon.signal("TERM");
    let mut replies = 0;
    while let Some((reply, _)) = client.receive() {
        assert!(reply["parameters"]["description"].is_string(), "a reply was torn: {reply}");
        replies += 1;
    }
    assert!(replies > 0, "nothing was delivered");
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_client_that_never_pauses_does_not_keep_it_from_stopping() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let mut talking = Client::connect(&daemon.socket());
    talking.stream = client.stream.try_clone().unwrap();
    let talker = thread::spawn(move || {
        let call = br#"{"method":"io.peermem.Broker.GetStatus"}"#;
        while talking.try_send(call) {}
    });
    for _ in 0..1000 {
        assert!(client.receive().is_some(), "nothing was answered");
    }
    daemon.signal("TERM");
    while client.receive().is_some() {}
    assert_eq!(daemon.wait().code(), Some(0));
    talker.join().unwrap();
    // By itself, and not because its patience was at an end.
    let log = daemon.log();
    assert!(!log.contains("in time"), "{log}");
}

#[test]
fn a_second_daemon_on_the_socket_is_refused() {
    let daemon = Daemon::start();
    let folder = daemon.socket().parent().unwrap().to_owned();
    let (code, said) = run_to_end(&folder, "", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("another peermemd serves") && said.contains("--socket"), "{said}");
    daemon.connect().assert_alive();
}

#[test]
fn the_socket_of_a_killed_daemon_is_taken_over() {
    let mut daemon = Daemon::start();
    daemon.signal("KILL");
    daemon.wait();
    assert!(daemon.socket().exists(), "nothing to take over");
    let daemon = Daemon::in_folder(daemon.into_folder(), "");
    assert!(daemon.log().contains("removing the socket of a daemon that is gone"));
    daemon.connect().assert_alive();
}

#[test]
fn a_file_that_is_no_socket_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peermemd.sock");
    std::fs::write(&path, "precious").unwrap();
    let (code, said) = run_to_end(folder.path(), "", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("isn't a socket"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_config_that_is_wrong_is_pointed_at() {
    for (config, says) in [
        ("[server]\nsocket_path = \"/x\"\n", "peermemd.toml:2:1: unknown field `socket_path`"),
        ("[[emulated]]\nname = \"a\"\nsize = \"1GB\"\n", "peermemd.toml:3:8: unit \"GB\""),
        (
            "[[p2pmem.region]]\ndevice = \"ffff:ff:1f.7\"\n",
            "peermemd.toml:2:10: no PCI function ffff:ff:1f.7",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for arguments in [&[][..], &["--check-config"]] {
            let (code, said) = run_to_end(folder.path(), config, arguments);
            assert_eq!(code, Some(78), "{said}");
            assert!(said.contains(says), "{says:?} isn't in:\n{said}");
        }
    }
}

#[test]
fn a_good_config_is_called_good() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run_to_end(folder.path(), "[server]\nstall_secs = 3\n", &["--check-config"]).0, Some(0));
}

#[test]
fn the_shipped_config_is_good_and_shows_the_defaults() {
    let shipped = include_str!("../../systemd/peermemd.toml");
    let folder = tempfile::tempdir().unwrap();
    let settings = |text: &str| {
        peermemd::config::parse(std::path::Path::new("peermemd.toml"), text, folder.path()).unwrap()
    };
    let expected = peermemd::config::Settings {
        metrics: Some("127.0.0.1:9489".parse().unwrap()),
        ..peermemd::config::Settings::default()
    };
    assert_eq!(settings(shipped), expected);
    // Every key that is commented out is shown with its default, but in examples of `[[...]]`: uncommented, nothing changes.
    let mut in_example = false;
    let shown: String = shipped
        .lines()
        .map(|line| {
            in_example = line.starts_with("# [[") || (in_example && !line.is_empty());
            line.strip_prefix("# ")
                .filter(|rest| {
                    // Of these the default is that they are absent.
                    let absent = ["socket =", "journal =", "audit_namespace ="];
                    !in_example && rest.contains(" = ") && !absent.iter().any(|key| rest.starts_with(key))
                })
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(shown.contains("\nstall_secs = "), "{shown}");
    assert_eq!(settings(&shown), expected);
}

#[test]
fn a_client_that_is_refused_in_a_loop_can_t_fill_the_log() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    for _ in 0..300 {
        client.call("Unmap", json!({ "lease": 99 }));
    }
    let text = daemon.scrape("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("peermem_refusals_total{code=\"UnknownLease\"} 300"), "{text}");
    let log = daemon.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("call refused")).collect();
    assert_eq!(told.len(), 10, "{log}");
    for field in ["audit=\"refusal\"", "code=\"io.peermem.Broker.UnknownLease\"", "lease=99", "uid="] {
        assert!(told[0].contains(field), "{field} isn't in {}", told[0]);
    }
    assert_eq!(log.matches("the rest is counted and not told").count(), 1, "{log}");
}

#[test]
fn a_socket_that_another_listens_at_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peermemd.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let (code, said) = run_to_end(folder.path(), "", &[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("another peermemd serves"), "{said}");
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_that_was_passed_is_served_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // A client that is there before the daemon.
    let mut client = support::Client::connect(&path);
    let mut daemon =
        support::activate(folder.path(), "peermemd.socket", OwnedFd::from(listener.try_clone().unwrap()));
    client.assert_alive();
    rustix::process::kill_process(rustix::process::Pid::from_child(&daemon), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(daemon.wait().unwrap().code(), Some(0));
    assert!(path.exists(), "systemd's socket was removed");
    drop(listener);
}
