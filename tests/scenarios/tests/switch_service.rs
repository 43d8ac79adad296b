//! The daemon as a system service: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use peermem::CallFailed;
use peermem_proto::{ByteLen, LeaseEnd, Method, ProviderKind, Revocation, Shape};
use peermem_scenarios::{
    command::{fail, json, run, succeed, varlink_call},
    daemon::{Config, Daemon, Journal, SOCKET, UNIT, property},
    drive::Drive,
    events::Events,
    leased::{request, rxe},
    peers::in_words,
    wait::until,
};
use serde_json::Value;

const MIB: ByteLen = ByteLen::new(1 << 20);

fn varlinkctl(arguments: &[&str]) -> Command {
    let mut command = Command::new("varlinkctl");
    command.args(arguments);
    command
}

fn process_status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap_or_else(|| panic!("no {field} in {status}")).trim().to_owned()
}

#[test]
fn systemd_runs_it_as_a_user_of_its_own_without_any_capability() {
    let daemon = Daemon::start();
    // A unit of this type is active as soon as the daemon has said READY.
    assert_eq!((property("Type"), property("ActiveState")), ("notify".into(), "active".into()));
    assert_eq!(daemon.client().status().unwrap().pid, daemon.pid());
    let user = run("id --user peermem");
    for uid in process_status(daemon.pid(), "Uid").split_whitespace() {
        assert_eq!(uid, user.trim());
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(process_status(daemon.pid(), set), "0000000000000000", "{set}");
    }
    assert_eq!(process_status(daemon.pid(), "NoNewPrivs"), "1");
}

#[test]
fn the_socket_is_for_the_group_and_nobody_else() {
    let _daemon = Daemon::start();
    let socket = fs::symlink_metadata(SOCKET).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    let group = run("getent group peermem | cut -d: -f3");
    assert_eq!(socket.gid().to_string(), group.trim());
}

#[test]
fn every_cmb_is_a_region_without_any_config() {
    let daemon = Daemon::start_with(None);
    let regions = daemon.client().regions().unwrap();
    let drives = ["a", "b", "c"].map(Drive::named);
    let names: BTreeSet<_> = regions.iter().map(|region| region.name.clone()).collect();
    assert_eq!(names, drives.iter().map(Drive::region).collect());
    for region in regions {
        let drive = drives.iter().find(|drive| drive.region() == region.name).unwrap();
        assert_eq!(region.device, Some(drive.address));
        assert_eq!((region.provider, region.shape), (ProviderKind::P2pmem, Shape::Pool));
        assert_eq!((region.method, region.revocation), (Method::OnDemand, Revocation::Advisory));
        assert_eq!((region.size.get(), region.free), (drive.available(), region.size));
        assert!(!region.emulated && region.leases == 0);
    }
}

#[test]
fn the_journal_tells_who_leased_what_in_fields() {
    let journal = Journal::begin();
    let daemon = Daemon::start();
    let drive = Drive::named("a");
    let lease = daemon.client().map(&request(drive.region(), MIB, &[rxe()])).unwrap();
    let id = lease.info().id.to_string();
    lease.unmap().unwrap();
    let entries = journal.entries();
    let said: Vec<&Value> = entries.iter().filter(|entry| entry["PEERMEM_LEASE"] == *id).collect();
    let messages: Vec<_> = said.iter().map(|entry| entry["MESSAGE"].as_str().unwrap()).collect();
    let region = drive.region();
    assert_eq!(
        messages,
        [
            format!("lease {id} granted: 1MiB of {region} for rdma:rxe0 by CPU copy"),
            format!("lease {id} ended: {}", LeaseEnd::Unmapped)
        ]
    );
    for entry in said {
        assert_eq!(entry["PEERMEM_REGION"], region.as_str());
        assert_eq!(entry["PEERMEM_UID"], "0");
        assert_eq!(entry["PEERMEM_PID"], std::process::id().to_string());
    }
    let serving = entries.iter().find(|entry| entry["MESSAGE"] == format!("serving {SOCKET}"));
    assert_eq!(serving.unwrap()["_PID"], daemon.pid().to_string());
}

#[test]
fn varlinkctl_lists_introspects_and_calls() {
    let daemon = Daemon::start();
    let interfaces = succeed(&mut varlinkctl(&["list-interfaces", SOCKET]));
    assert_eq!(
        interfaces.split_whitespace().collect::<Vec<_>>(),
        ["io.peermem.Broker", "org.varlink.service"]
    );
    let definition = succeed(&mut varlinkctl(&["introspect", SOCKET, "io.peermem.Broker"]));
    let file = std::env::temp_dir().join("io.peermem.Broker.varlink");
    fs::write(&file, &definition).unwrap();
    succeed(varlinkctl(&["validate-idl"]).arg(&file));
    fs::remove_file(file).unwrap();
    let methods = succeed(&mut varlinkctl(&["list-methods", SOCKET]));
    for method in peermem_proto::call::METHODS {
        assert!(methods.lines().any(|line| line == *method), "{method} isn't in {methods}");
    }
    let status = json(&succeed(&mut varlink_call("io.peermem.Broker.GetStatus", "{}")));
    assert_eq!(status["pid"], daemon.pid());
    let regions = json(&succeed(&mut varlink_call("io.peermem.Broker.ListRegions", "{}")));
    assert_eq!(regions["regions"].as_array().unwrap().len(), 3);
}

#[test]
fn varlinkctl_gets_the_standard_error_of_a_wrong_call() {
    let _daemon = Daemon::start();
    for (method, parameters, error, named) in [
        ("io.peermem.Broker.Mapp", "{}", "org.varlink.service.MethodNotFound", "io.peermem.Broker.Mapp"),
        ("io.peermem.Breaker.Map", "{}", "org.varlink.service.InterfaceNotFound", "io.peermem.Breaker"),
        ("io.peermem.Broker.GetStatus", r#"{"x":1}"#, "org.varlink.service.InvalidParameter", "parameter x"),
        ("io.peermem.Broker.Watch", "{}", "org.varlink.service.ExpectedMore", "more"),
        ("io.peermem.Broker.Unmap", r#"{"lease":99}"#, "io.peermem.Broker.UnknownLease", "lease 99"),
    ] {
        let said = fail(&mut varlink_call(method, parameters), 1);
        assert!(said.contains(error) && said.contains(named), "{method}: {said}");
    }
}

#[test]
fn varlinkctl_streams_the_events() {
    let daemon = Daemon::start();
    let mut watch =
        varlink_call("io.peermem.Broker.Watch", "{}").arg("--more").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    // JSON text sequences (RFC 7464): a record separator is in front of each.
    let mut next = move || json(lines.next().unwrap().unwrap().trim_start_matches('\x1e'));
    assert_eq!(next(), serde_json::json!({}), "the stream has begun");
    let client = daemon.client();
    let lease = client.map(&request(Drive::named("b").region(), MIB, &[rxe()])).unwrap();
    let id = lease.info().id.get();
    lease.unmap().unwrap();
    for kind in ["lease_granted", "lease_ended"] {
        let event = next()["event"].take();
        assert_eq!((&event["kind"], &event["lease"]["id"]), (&kind.into(), &id.into()), "{event}");
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_stop_ends_connections_and_leaves_no_socket() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let lease = client.map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    run(&format!("systemctl stop {UNIT}"));
    assert_eq!((property("ActiveState"), property("Result")), ("inactive".into(), "success".into()));
    assert!(!Path::new(SOCKET).exists());
    let error = lease.unmap().unwrap_err();
    assert!(matches!(error, CallFailed::Lost(_)), "{error:?}");
    let error = peermem::Client::connect_to(SOCKET).unwrap_err();
    assert!(in_words(&error).contains("systemctl start peermemd"), "{error}");
}

#[test]
fn after_kill_9_systemd_brings_it_back() {
    let daemon = Daemon::start();
    let before = daemon.pid();
    let client = daemon.client();
    let lease = client.map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    let mapping = lease.mapping().unwrap();
    mapping.copy_from_slice(0, b"still here").unwrap();
    kill(Pid::from_raw(before.try_into().unwrap()), Signal::SIGKILL).unwrap();
    // A daemon that is gone can't say that it is back.
    let client = until("peermemd is back", || peermem::Client::connect_to(SOCKET).ok());
    let status = client.status().unwrap();
    assert_ne!(status.pid, before);
    assert_eq!((status.regions, property("NRestarts")), (3, "1".to_owned()));
    // The memory is the kernel's: a transfer under way isn't disturbed.
    let mut found = [0; 10];
    mapping.copy_to_slice(0, &mut found).unwrap();
    assert_eq!(&found, b"still here");
    assert!(matches!(lease.unmap(), Err(CallFailed::Lost(_))));
    let again = client.map(&request(Drive::named("a").region(), MIB, &[rxe()])).unwrap();
    again.mapping().unwrap();
}

#[test]
fn a_wrong_config_keeps_it_from_starting_and_the_journal_says_where() {
    for (config, words) in [
        ("[metrics]\nlisten = \"nowhere\"\n", ["peermemd.toml:2", "listen"]),
        ("[server]\ndrain = 5\n", ["peermemd.toml:2", "drain_secs"]),
        ("[[p2pmem.region]]\ndevice = \"0000:7f:00.0\"\n", ["peermemd.toml:2", "0000:7f:00.0"]),
    ] {
        let _config = Config::put(Some(config));
        let journal = Journal::begin();
        fail(Command::new("systemctl").args(["start", UNIT]), 1);
        // It would be tried again a few times.
        run(&format!("systemctl stop {UNIT}"));
        let said: Vec<_> = journal.entries().iter().map(|entry| entry["MESSAGE"].to_string()).collect();
        let said = said.join("\n");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} aren't in {said}");
    }
}

#[test]
fn a_second_daemon_on_the_same_socket_gives_way() {
    let daemon = Daemon::start();
    let said = fail(Command::new("peermemd").args(["--emulate", "1MiB", "--socket", SOCKET]), 1);
    assert!(said.contains("another peermemd serves") && said.contains("systemctl stop"), "{said}");
    assert_eq!(daemon.client().status().unwrap().pid, daemon.pid());
}

#[test]
fn a_hundred_clients_at_once_leave_nothing_behind() {
    let daemon = Daemon::start();
    let drive = Drive::named("c");
    let before = (drive.available(), daemon.descriptors().len());
    let mut events = Events::of(&daemon.client());
    thread::scope(|scope| {
        for _ in 0..100 {
            scope.spawn(|| {
                let lease =
                    daemon.client().map(&request(drive.region(), ByteLen::new(65536), &[rxe()])).unwrap();
                lease.mapping().unwrap().copy_from_slice(0, &lease.info().id.get().to_le_bytes()).unwrap();
            });
        }
    });
    for number in 0..100 {
        events.find(&format!("100 leases have ended, only {number}"), |event| {
            matches!(event, peermem_proto::Event::LeaseEnded { .. }).then_some(())
        });
    }
    drop(events);
    until("the daemon has closed the connections", || (daemon.descriptors().len() == before.1).then_some(()));
    assert_eq!(drive.available(), before.0);
    assert_eq!(daemon.client().status().unwrap().leased_bytes, 0);
}
