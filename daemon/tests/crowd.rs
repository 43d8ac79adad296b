//! Many clients, slow clients, and those who watch: nobody holds up another.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    io::Write,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use support::{Client, Daemon, code, eventually, map_request};

/// The median time of a map and an unmap, over some rounds.
fn round_trip(client: &mut Client) -> Duration {
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let began = Instant::now();
            let (lease, _fd) = client.map(4096);
            client.call("Unmap", json!({ "lease": lease }));
            began.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// Not a benchmark: a daemon that serves clients one after the other would be a thousand times slower, or hang.
#[track_caller]
fn assert_not_slowed(alone: Duration, crowded: Duration) {
    assert!(crowded < alone * 20 + Duration::from_millis(5), "{alone:?} alone, {crowded:?} in the crowd");
}

#[test]
fn a_thousand_idle_clients_slow_nobody() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let daemon = Daemon::start();
    let mut client = daemon.connect();
    let alone = round_trip(&mut client);
    let mut idle: Vec<_> = (0..1000).map(|_| daemon.connect()).collect();
    idle.last_mut().unwrap().assert_alive();
    assert_eq!(client.call("GetStatus", json!({}))["parameters"]["connections"], 1001);
    assert_not_slowed(alone, round_trip(&mut client));
    drop(idle);
    eventually("they are gone", || client.call("GetStatus", json!({}))["parameters"]["connections"] == 1);
}

#[test]
fn clients_that_never_read_slow_nobody_and_are_given_up() {
    let daemon = Daemon::with_config("[server]\nstall_secs = 2\n");
    let mut client = daemon.connect();
    let alone = round_trip(&mut client);
    let call = br#"{"method":"org.varlink.service.GetInterfaceDescription","parameters":{"interface":"io.peermem.Broker"}}"#;
    let mut deaf: Vec<_> = (0..20).map(|_| daemon.connect()).collect();
    for one in &mut deaf {
        // Far more replies than the socket holds.
        one.stream.set_nonblocking(true).unwrap();
        let calls: Vec<u8> = (0..1000).flat_map(|_| call.iter().copied().chain([0])).collect();
        let _ = one.stream.write(&calls);
    }
    assert_not_slowed(alone, round_trip(&mut client));
    eventually("they are given up", || client.call("GetStatus", json!({}))["parameters"]["connections"] == 1);
    eventually("the log says why", || daemon.log().contains("or fetch a reply, within"));
}

#[test]
fn a_thousand_half_sent_messages_slow_a_good_client_by_less_than_two() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).unwrap();
    let daemon = Daemon::with_config("[server]\nstall_secs = 60\n");
    let mut client = daemon.connect();
    let halves: Vec<_> = (0..1000)
        .map(|_| {
            let mut half = daemon.connect();
            half.stream.write_all(br#"{"method":"io.peermem.Broker.Map","parameters":{"#).unwrap();
            half
        })
        .collect();
    eventually("all are connected", || {
        client.call("GetStatus", json!({}))["parameters"]["connections"] == 1001
    });
    let mut fresh = Daemon::start();
    let mut alone = fresh.connect();
    // Both in turn, and the best of each: other tests run beside this one, and may just have ended when one of the two is measured.
    let (mut in_the_crowd, mut by_itself) = (Duration::MAX, Duration::MAX);
    for turn in 1..=50 {
        in_the_crowd = in_the_crowd.min(round_trip(&mut client));
        by_itself = by_itself.min(round_trip(&mut alone));
        if turn >= 5 && in_the_crowd < by_itself * 2 {
            break;
        }
    }
    assert!(in_the_crowd < by_itself * 2, "{by_itself:?} alone, {in_the_crowd:?} beside a thousand halves");
    drop(halves);
    fresh.signal("TERM");
    fresh.wait();
}

#[test]
fn one_user_has_so_many_connections_and_no_more() {
    if rustix::process::geteuid().is_root() {
        // Root isn't bound: be somebody else, in a child that may reach the socket.
        return as_nobody("one_user_has_so_many_connections_and_no_more");
    }
    let daemon = Daemon::with_config("[limits]\nconnections_per_user = 3\n");
    let mut admitted: Vec<_> = (0..3).map(|_| daemon.connect()).collect();
    admitted.iter_mut().for_each(Client::assert_alive);
    let mut fourth = daemon.connect();
    let refused = fourth.call("GetStatus", json!({}));
    assert_eq!(code(&refused), "LimitReached");
    assert_eq!(refused["parameters"]["key"], "connections_per_user");
    assert!(fourth.receive().is_none());
    drop(admitted);
    eventually("there is room again", || code(&daemon.connect().call("GetStatus", json!({}))) == "no error");
}

/// Runs one test of this file again as an ordinary user.
fn as_nobody(test: &str) {
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("crowd");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let daemon = folder.path().join("peermemd");
    std::fs::copy(env!("CARGO_BIN_EXE_peermemd"), &daemon).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let mut command = std::process::Command::new(binary);
    command
        .args(["--exact", test, "--nocapture"])
        .env("PEERMEMD_BINARY", daemon)
        .env("TMPDIR", "/tmp")
        .uid(65534)
        .gid(65534)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = support::spawn_copy(&mut command).wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn watcher(daemon: &Daemon) -> Client {
    let mut watcher = daemon.connect();
    watcher.send(br#"{"method":"io.peermem.Broker.Watch","more":true}"#, vec![]);
    assert_eq!(watcher.receive().unwrap().0, json!({ "parameters": {}, "continues": true }));
    watcher
}

#[test]
fn a_watcher_sees_what_happens_in_order() {
    let daemon = Daemon::start();
    let mut watcher = watcher(&daemon);
    let mut client = daemon.connect();
    let (lease, _fd) = client.map(4096);
    client.call("Unmap", json!({ "lease": lease }));
    let (second, _fd) = client.map(4096);
    drop(client);
    for (kind, id, reason) in [
        ("lease_granted", lease, None),
        ("lease_ended", lease, Some("unmapped")),
        ("lease_granted", second, None),
        ("lease_ended", second, Some("owner_gone")),
    ] {
        let reply = watcher.receive().unwrap().0;
        assert_eq!(reply["continues"], true);
        let event = &reply["parameters"]["event"];
        assert_eq!(
            (event["kind"].as_str(), event["lease"]["id"].as_u64()),
            (Some(kind), Some(id)),
            "{event}"
        );
        assert_eq!(event["reason"].as_str(), reason);
    }
}

#[test]
fn a_watcher_that_does_not_read_is_told_what_it_lost() {
    let daemon = Daemon::with_config("[server]\nstall_secs = 60\n");
    let mut watcher = watcher(&daemon);
    let mut client = daemon.connect();
    for _ in 0..3000 {
        let (lease, _fd) = client.map(4096);
        client.call("Unmap", json!({ "lease": lease }));
    }
    let mut seen = 0;
    let last = loop {
        let reply = watcher.receive().unwrap().0;
        if reply.get("error").is_some() {
            break reply;
        }
        seen += 1;
    };
    assert_eq!(code(&last), "WatcherTooSlow");
    let lost = last["parameters"]["lost"].as_u64().unwrap();
    assert!(lost > 0 && seen + lost <= 6000, "{seen} seen, {lost} lost");
    assert_eq!(daemon.metric("peermem_watchers_dropped_total"), Some(1.0));
    assert!(
        daemon.metric("peermem_journal_rewrites_total") > Some(0.0),
        "of all those leases nothing is left"
    );
    // The stream is over, the connection isn't.
    watcher.assert_alive();
}

#[test]
fn a_client_that_is_refused_in_a_loop_costs_watchers_nothing() {
    let daemon = Daemon::start();
    let mut watcher = watcher(&daemon);
    let mut client = daemon.connect();
    let mut nowhere = map_request(4096);
    nowhere["region"] = "nowhere".into();
    // More than are kept for a watcher, and much sooner than a period of refusals ends.
    for _ in 0..1500 {
        assert_eq!(code(&client.call("Map", nowhere.clone())), "UnknownRegion");
    }
    let (lease, _fd) = client.map(4096);
    let mut next = || watcher.receive().unwrap().0["parameters"]["event"].take();
    for _ in 0..10 {
        let event = next();
        assert_eq!((&event["kind"], &event["name"]), (&"refused".into(), &"nowhere".into()), "{event}");
    }
    assert_eq!(next()["lease"]["id"], lease);
    let left_out = next();
    assert_eq!(
        (&left_out["kind"], &left_out["count"]),
        (&"refusals_left_out".into(), &1490.into()),
        "{left_out}"
    );
    assert!(left_out["uid"].is_u64(), "{left_out}");
    assert!(daemon.log().contains("audit=\"withheld\""), "{}", daemon.log());
}

#[test]
fn clients_at_once_get_leases_of_their_own() {
    let daemon = Daemon::start();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let mut client = daemon.connect();
            std::thread::spawn(move || {
                (0..50)
                    .map(|_| {
                        let (lease, _fd) = client.map(4096);
                        client.call("Unmap", json!({ "lease": lease }));
                        lease
                    })
                    .collect::<Vec<_>>()
            })
        })
        .collect();
    let mut all: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all.len(), 400);
    all.dedup();
    assert_eq!(all.len(), 400, "a lease number came twice");
    let mut client = daemon.connect();
    assert_eq!(client.free(), 1 << 20);
    assert_eq!(code(&client.call("Map", map_request(4096))), "no error");
}
