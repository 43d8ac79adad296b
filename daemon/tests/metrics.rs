//! The metrics: what moves them, and the door that they are served at.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs::File,
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
};

use serde_json::json;
use support::{Daemon, PATIENCE, eventually};

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
    let text = daemon.scrape("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    for line in [
        "peermem_regions{provider=\"emulated\"} 1",
        "peermem_region_size_bytes{provider=\"emulated\",region=\"emulated\"} 1048576",
        "peermem_region_leased_bytes{provider=\"emulated\",region=\"emulated\"} 8192",
        "peermem_leases{method=\"pinned\",provider=\"emulated\",state=\"active\"} 1",
        "peermem_mappings_total{method=\"pinned\",route=\"software\"} 1",
        "peermem_refusals_total{code=\"UnknownRegion\"} 1",
        "peermem_refusals_total{code=\"MethodNotFound\"} 1",
        "peermem_request_duration_seconds_count{method=\"Map\"} 2",
        "peermem_request_duration_seconds_count{method=\"unknown\"} 1",
        "peermem_region_free_bytes{provider=\"emulated\",region=\"emulated\"} 1040384",
        "peermem_region_missing_bytes{provider=\"emulated\",region=\"emulated\"} 0",
        &format!("peermem_user_leased_bytes{{uid=\"{}\"}} 8192", rustix::process::geteuid().as_raw()),
        "peermem_rule_leases{rule=\"root\"} 1",
        "peermem_events_total{kind=\"lease_granted\"} 1",
        "peermem_watchers 0",
        "peermem_descriptors{kind=\"dmabuf\"} 0",
        "peermem_journal_failures_total 0",
        "peermem_connections 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} isn't in:\n{text}");
    }
    assert!(text.contains("process_open_fds "), "{text}");
}

#[test]
fn counters_move_with_what_they_count() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let (given_back, _fd) = client.map(4096);
    client.call("Unmap", json!({ "lease": given_back }));
    let records = daemon.metric("peermem_journal_records_total").unwrap();
    let mut other = daemon.connect();
    let _lease = other.map(4096);
    assert!(daemon.metric("peermem_journal_records_total").unwrap() > records);
    drop(other);
    eventually("the lease ends with its owner", || {
        daemon.metric("peermem_lease_ends_total{reason=\"owner_gone\"}") == Some(1.0)
    });
    client.call("Unmap", json!({ "lease": 99 }));
    for (sample, value) in [
        ("peermem_lease_ends_total{reason=\"unmapped\"}", 1.0),
        ("peermem_connections_total", 2.0),
        ("peermem_audit_records_total{to=\"log\"}", 3.0),
    ] {
        assert_eq!(daemon.metric(sample), Some(value), "{sample}");
    }
    for (config, outcome) in [("[limits]\nleases = 0\n", "refused"), ("", "accepted")] {
        std::fs::write(daemon.socket().with_file_name("peermemd.toml"), config).unwrap();
        daemon.signal("HUP");
        let sample = format!("peermem_config_reloads_total{{outcome=\"{outcome}\"}}");
        eventually(&sample, || daemon.metric(&sample) == Some(1.0));
    }
}

#[test]
fn a_client_can_not_choose_a_label() {
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let fd = OwnedFd::from(File::open("/dev/null").unwrap());
    client.send(br#"{"method":"org.varlink.service.GetWhatever"}"#, vec![fd]);
    assert!(client.receive().unwrap().0["error"].is_string());
    let text = daemon.scrape("GET /metrics HTTP/1.1\r\n\r\n");
    assert!(text.contains("peermem_request_duration_seconds_count{method=\"unknown\"} 1"), "{text}");
    assert!(!text.contains("GetWhatever"), "{text}");
}

#[test]
fn the_metrics_door_keeps_its_bounds() {
    let daemon = Daemon::start();
    assert!(daemon.scrape("GET /other HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(daemon.scrape("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(9000));
    assert!(daemon.scrape(&long).starts_with("HTTP/1.1 431 "));
    // As many silent scrapers as are served at once are given up after some seconds.
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(daemon.metrics_address()).unwrap()).collect();
    assert!(daemon.scrape("GET /metrics HTTP/1.1\r\n\r\n").contains("peermem_build_info"));
    drop(silent);
}

#[test]
fn metrics_are_served_on_a_unix_socket_which_goes_with_the_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let mut daemon = Daemon::with_metrics(&format!("unix:{}", path.display()));
    let scrape = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        support::ask(stream, "GET /metrics HTTP/1.1\r\n\r\n")
    };
    assert!(scrape().contains("peermem_build_info"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    daemon.signal("TERM");
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(!path.exists());
}
