//! The daemon as a system service: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use peermem::{CallFailed, proto::varlink::CallError};
use peermem_proto::{ByteLen, LeaseEnd, Method, ProviderKind, Refusal, Revocation, Shape};
use peermem_scenarios::{
    command::{fail, json, peermemctl, run, succeed, varlink_call},
    daemon::{Config, Daemon, Journal, SOCKET, SOCKET_UNIT, UNIT, property, refusal},
    drive::Drive,
    events::Events,
    leased::{request, rxe},
    peers::in_words,
    user::User,
    wait::{until, until_seen},
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
    assert_eq!((property("Type"), property("ActiveState")), ("notify-reload".into(), "active".into()));
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
        assert_eq!((region.free, drive.available()), (region.size, 0), "the daemon holds all of it");
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
    assert_eq!(
        (&said[0]["PEERMEM_AUDIT"], &said[1]["PEERMEM_REASON"]),
        (&"grant".into(), &"unmapped".into())
    );
    for entry in said {
        assert_eq!(entry["PEERMEM_REGION"], region.as_str());
        assert_eq!(entry["PEERMEM_INITIATOR"], "rdma:rxe0");
        assert_eq!(entry["PEERMEM_UID"], "0");
        assert_eq!(entry["PEERMEM_PID"], std::process::id().to_string());
    }
    let serving = entries.iter().find(|entry| entry["MESSAGE"] == format!("serving {SOCKET}"));
    assert_eq!(serving.unwrap()["_PID"], daemon.pid().to_string());
}

/// A config whose grants and refusals go to this namespace.
fn audited(namespace: &str) -> String {
    format!("[log]\naudit_namespace = \"{namespace}\"\n")
}

/// The grants and refusals in the daemon's log, or in a namespace, of this user since then.
fn audit(journal: &Journal, of: &str, uid: &str) -> Vec<String> {
    let entries = journal.entries_of(of).into_iter();
    let ours = entries.filter(|entry| !entry["PEERMEM_AUDIT"].is_null() && entry["PEERMEM_UID"] == uid);
    ours.map(|entry| {
        assert_eq!(entry["PEERMEM_INITIATOR"], "rdma:rxe0", "{entry}");
        assert_eq!(
            (&entry["_SYSTEMD_UNIT"], &entry["SYSLOG_IDENTIFIER"]),
            (&UNIT.into(), &"peermemd".into())
        );
        ["PEERMEM_AUDIT", "PEERMEM_REGION", "PEERMEM_CODE"]
            .map(|field| entry[field].as_str().unwrap_or("-"))
            .join(" ")
    })
    .collect()
}

#[test]
fn grants_and_refusals_can_have_a_journal_of_their_own_from_a_reload_on() {
    let region = Drive::named("a").region();
    let once = || {
        let daemon = peermem::Client::connect_to(SOCKET).unwrap();
        daemon.map(&request(region.clone(), MIB, &[rxe()])).unwrap().unmap().unwrap();
        refusal(daemon.map(&request("nowhere".parse().unwrap(), MIB, &[rxe()])));
    };
    let expected =
        [format!("grant {region} -"), "refusal nowhere io.peermem.Broker.UnknownRegion".to_owned()];
    let of_namespace = "--namespace=peermem";
    let _daemon = Daemon::start();
    let journal = Journal::begin();
    once();
    assert_eq!(audit(&journal, "", "0"), expected);
    assert_eq!(audit(&journal, of_namespace, "0"), [""; 0]);

    let (said, _config) = reload(&audited("peermem"));
    assert!(said.contains("the new config counts"), "{said}");
    let journal = Journal::begin();
    once();
    assert_eq!(audit(&journal, of_namespace, "0"), expected);
    assert_eq!(audit(&journal, "", "0"), [""; 0], "what is in the one journal isn't in the other");
    let ends = |entry: &Value| entry["PEERMEM_REASON"] == "unmapped";
    assert!(journal.entries().iter().any(ends), "the rest stays in the log");

    let (_, _config) = reload("");
    let journal = Journal::begin();
    once();
    assert_eq!(audit(&journal, "", "0"), expected);
    assert_eq!(audit(&journal, of_namespace, "0"), [""; 0]);
}

#[test]
fn a_namespace_without_a_journal_is_said_once_and_loses_nothing() {
    let journal = Journal::begin();
    let daemon = Daemon::start_with(Some(&audited("nobody-s")));
    let client = daemon.client();
    for _ in 0..3 {
        refusal(client.map(&request("nowhere".parse().unwrap(), MIB, &[rxe()])));
    }
    let entries = journal.entries();
    let said = |words: &str| {
        entries
            .iter()
            .filter(|entry| entry["MESSAGE"].as_str().is_some_and(|message| message.contains(words)))
            .count()
    };
    assert_eq!(said("Is systemd-journald@nobody-s.socket active?"), 1);
    assert_eq!(audit(&journal, "", "0").len(), 3);
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
    client.set_patience(Duration::ZERO);
    run(&format!("systemctl stop {SOCKET_UNIT} {UNIT}"));
    assert_eq!((property("ActiveState"), property("Result")), ("inactive".into(), "success".into()));
    assert!(!Path::new(SOCKET).exists());
    let error = lease.unmap().unwrap_err();
    assert!(matches!(error, CallFailed::Lost(_)), "{error:?}");
    let error = peermem::Client::connect_to(SOCKET).unwrap_err();
    assert!(in_words(&error).contains("systemctl start peermemd"), "{error}");
}

#[test]
fn the_first_client_starts_it() {
    let daemon = Daemon::start();
    run(&format!("systemctl stop {UNIT} 2>&1"));
    assert_eq!(property("ActiveState"), "inactive");
    assert_eq!(daemon.client().status().unwrap().regions, 3);
    assert_eq!(property("ActiveState"), "active");
}

#[test]
fn whoever_connects_during_a_restart_waits_and_sees_no_error() {
    let daemon = Daemon::start();
    let before = daemon.pid();
    let restarted = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = [(); 4].map(|()| {
            scope.spawn(|| {
                let mut answered = 0;
                while !restarted.load(Ordering::Relaxed) {
                    // A call may be lost with the daemon that took it, and is made again; a connection never fails.
                    daemon.client().status().unwrap();
                    answered += 1;
                }
                answered
            })
        });
        for _ in 0..3 {
            run(&format!("systemctl restart {UNIT}"));
        }
        restarted.store(true, Ordering::Relaxed);
        assert!(clients.into_iter().all(|client| client.join().unwrap() > 0));
    });
    assert_ne!(daemon.pid(), before);
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
    // The client waits until systemd has it back.
    let status = client.status().unwrap();
    assert_ne!(status.pid, before);
    assert_eq!((status.regions, property("NRestarts")), (3, "1".to_owned()));
    // The memory is the kernel's: a transfer under way isn't disturbed.
    let mut found = [0; 10];
    mapping.copy_to_slice(0, &mut found).unwrap();
    assert_eq!(&found, b"still here");
    assert!(!lease.is_lost());
    drop(mapping);
    lease.unmap().unwrap();
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
        assert_eq!(
            (property("ActiveState"), property("NRestarts")),
            ("failed".into(), "0".into()),
            "no second try"
        );
        let said: Vec<_> = journal.entries().iter().map(|entry| entry["MESSAGE"].to_string()).collect();
        let said = said.join("\n");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?} aren't in {said}");
    }
}

/// Puts a config there and has it read again. What the daemon says of it, while the config is there.
fn reload(config: &str) -> (String, Config) {
    let (config, journal) = (Config::put(Some(config)), Journal::begin());
    run(&format!("systemctl reload {UNIT}"));
    let said = until("the journal tells of the reload", || {
        let entries = journal.entries();
        let mut messages = entries.iter().filter_map(|entry| entry["MESSAGE"].as_str());
        messages
            .find(|message| message.contains("the config") || message.contains("new config"))
            .map(str::to_owned)
    });
    (said, config)
}

#[test]
fn a_reload_takes_a_good_config_and_leaves_a_bad_one_with_its_line_in_the_journal() {
    let member = User::add_member("member");
    let line = format!("map {} --size 4KiB --for 0", Drive::named("a").region());
    let mut map = member.command(&peermemctl(&line));
    let daemon = Daemon::start();
    let pid = daemon.pid();
    let (said, _bad) = reload("[limits]\nleases = 0\n");
    for part in ["the config stays as it was", "peermemd.toml:2", "leases_per_user"] {
        assert!(said.contains(part), "{part} isn't in {said}");
    }
    succeed(&mut map);
    let (said, _good) = reload("[[policy.rule]]\nname = \"nobody\"\nusers = [\"*\"]\nallow = []\n");
    assert!(said.contains("the new config counts"), "{said}");
    let error = json(&fail(&mut map, 1));
    assert_eq!(error["error"], "io.peermem.Broker.NotAllowed");
    assert_eq!(daemon.pid(), pid);
}

#[test]
fn a_watcher_that_reads_too_slowly_is_told_what_it_lost_and_others_go_on() {
    // Events of a lease that comes and goes; more than the daemon keeps for a watcher and the socket holds.
    const EVENTS: usize = 3000;
    // A watcher that takes nothing at all for so long is hung up on, without a word: longer than the events take here.
    let daemon = Daemon::start_with(Some("[server]\nstall_secs = 600\n"));
    let client = daemon.client();
    let (mut slow, quick) = (client.watch().unwrap(), client.watch().unwrap());
    let counts = thread::spawn(move || quick.map(Result::unwrap).take(EVENTS).count());
    let page = request(Drive::named("a").region(), ByteLen::new(4096), &[rxe()]);
    for _ in 0..EVENTS / 2 {
        client.map(&page).unwrap().unmap().unwrap();
    }
    assert_eq!(counts.join().unwrap(), EVENTS);
    let end = slow.find_map(Result::err).unwrap();
    let CallFailed::Answered(CallError::Refusal(Refusal::WatcherTooSlow { lost })) = end else {
        panic!("{end}")
    };
    assert!(lost > 0 && slow.next().is_none());
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
    let before = daemon.descriptors_at_rest().len();
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
    until_seen(
        &format!("the daemon has closed the connections: at most {before} descriptors"),
        || daemon.descriptors().len(),
        |open| *open <= before,
    );
    daemon.waits_for_all_of(&drive);
    assert_eq!(daemon.client().status().unwrap().leased_bytes, 0);
}
