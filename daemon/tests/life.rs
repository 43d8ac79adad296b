//! Starting, stopping, and what is in the way of it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::json;
use support::{Daemon, PATIENCE, run_to_end};

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
            assert_eq!(code, Some(1), "{said}");
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
    // Every key that is commented out is shown with its default: uncommented, nothing changes.
    let shown: String = shipped
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = ") && !rest.contains("0000:"))
                .unwrap_or(line)
        })
        .filter(|line| !["name =", "size =", "ignore =", "socket ="].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(shown.contains("\nstall_secs = "), "{shown}");
    assert_eq!(settings(&shown), expected);
}

fn http(daemon: &Daemon, request: &str) -> String {
    let mut stream = TcpStream::connect(daemon.metrics_address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_count_what_happened() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let _lease = client.map(8192);
    client.call(
        "Map",
        json!({ "region": "nope", "length": 4096, "initiators": ["emulated"], "direction": "read" }),
    );
    client.call("Nope", json!({}));
    let text = http(&daemon, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in [
        "peermem_regions{provider=\"emulated\"} 1",
        "peermem_region_size_bytes{provider=\"emulated\",region=\"emulated\"} 1048576",
        "peermem_region_leased_bytes{provider=\"emulated\",region=\"emulated\"} 8192",
        "peermem_leases{method=\"pinned\"} 1",
        "peermem_mappings_total{method=\"pinned\",route=\"software\"} 1",
        "peermem_refusals_total{code=\"UnknownRegion\"} 1",
        "peermem_refusals_total{code=\"MethodNotFound\"} 1",
        "peermem_request_duration_seconds_count{method=\"Map\"} 2",
        "peermem_request_duration_seconds_count{method=\"unknown\"} 1",
        "peermem_connections 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} isn't in:\n{text}");
    }
    assert!(text.contains("process_open_fds "), "{text}");
}

#[test]
fn the_metrics_door_keeps_its_bounds() {
    let daemon = Daemon::start();
    assert!(http(&daemon, "GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(http(&daemon, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
    assert!(http(&daemon, &long).starts_with("HTTP/1.1 431 "));
    // As many silent scrapers as are served at once are given up after some seconds.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(daemon.metrics_address()).unwrap()).collect();
    assert!(http(&daemon, "GET /metrics HTTP/1.1\r\n\r\n").contains("peermem_build_info"));
    drop(silent);
}
