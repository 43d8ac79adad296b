//! What tenants can do, and what they can't do to each other: policy, limits, delegation, revocation.
#![allow(clippy::unwrap_used)]

#[path = "support/caller.rs"]
mod caller;
mod support;

use std::time::{Duration, Instant};

use caller::{Caller, NOBODY, call};
use serde_json::{Value, json};
use support::{Client, Daemon, code, eventually, map_request};

fn events(client: &mut Client) {
    client.send(br#"{"method":"io.peermem.Broker.Watch","more":true}"#, vec![]);
    let (begun, _) = client.receive().unwrap();
    assert_eq!(begun["continues"], true, "{begun}");
}

/// The next event of a kind.
fn next(client: &mut Client, kind: &str) -> Value {
    loop {
        let (reply, _) = client.receive().expect("the stream has ended");
        let event = reply["parameters"]["event"].clone();
        if event["kind"] == kind {
            return event;
        }
    }
}

#[test]
fn a_lease_is_renewed_or_expires_and_is_overdue_until_it_is_given_back() {
    let daemon = Daemon::with_config("[leases]\nrevoke_grace_secs = 1\n");
    let (mut client, mut watcher) = (daemon.connect(), daemon.connect());
    events(&mut watcher);
    let mut request = map_request(4096);
    request["lease_secs"] = json!(600);
    let (reply, _memory) = client.call_with("Map", request, vec![]);
    let lease = reply["parameters"]["lease"].clone();
    let first = lease["expires_at"].as_u64().unwrap();
    let renewed = client.call("Renew", json!({ "lease": lease["id"], "lease_secs": 1200 }));
    assert!(renewed["parameters"]["lease"]["expires_at"].as_u64().unwrap() > first, "{renewed}");
    assert_eq!(next(&mut watcher, "lease_renewed")["lease"]["id"], lease["id"]);
    let began = Instant::now();
    client.call("Renew", json!({ "lease": lease["id"], "lease_secs": 2 }));
    let revoked = next(&mut watcher, "lease_revoked");
    assert_eq!(revoked["lease"]["state"]["reason"], "expired", "{revoked}");
    assert!(began.elapsed() > Duration::from_millis(1500), "it expired before its time");
    assert_eq!(next(&mut watcher, "lease_overdue")["lease"]["state"]["overdue"], true);
    assert_eq!(client.call("GetStatus", json!({}))["parameters"]["overdue"], 1);
    let refused = client.call("Renew", json!({ "lease": lease["id"] }));
    assert_eq!(code(&refused), "LeaseRevoked", "{refused}");
    client.call("Unmap", json!({ "lease": lease["id"] }));
    assert_eq!(next(&mut watcher, "lease_ended")["reason"], "revoked");
    eventually("the log says so", || daemon.log().contains("is overdue"));
}

#[test]
fn the_same_memory_is_passed_on_by_a_token_once() {
    let daemon = Daemon::start();
    let [mut from, mut to, mut watcher] = [daemon.connect(), daemon.connect(), daemon.connect()];
    events(&mut watcher);
    let (lease, memory) = from.map(8192);
    let memory = std::fs::File::from(memory);
    std::os::unix::fs::FileExt::write_all_at(&memory, b"same bytes", 4096).unwrap();
    let copy = memory.try_clone().unwrap().into();
    let (reply, _) = from.call_with("Delegate", json!({ "lease": lease, "memory_fd": 0 }), vec![copy]);
    let token = reply["parameters"]["token"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned();
    assert!(!daemon.log().contains(&token), "a token is in the log");
    let (claimed, fds) = to.call_with("Claim", json!({ "token": token }), vec![]);
    assert_eq!(claimed["parameters"]["lease"]["id"], lease, "{claimed}");
    let mut bytes = [0; 10];
    let theirs = std::fs::File::from(fds.into_iter().next().unwrap());
    std::os::unix::fs::FileExt::read_exact_at(&theirs, &mut bytes, 4096).unwrap();
    assert_eq!(&bytes, b"same bytes");
    assert_eq!(next(&mut watcher, "lease_delegated")["lease"]["id"], lease);
    assert_eq!(code(&to.call("Claim", json!({ "token": token }))), "UnknownToken");
    assert_eq!(code(&from.call("Unmap", json!({ "lease": lease }))), "NotYours");
    let wrong = std::fs::File::open("/dev/null").unwrap().into();
    let (refused, _) = to.call_with("Delegate", json!({ "lease": lease, "memory_fd": 0 }), vec![wrong]);
    assert_eq!(code(&refused), "NotTheMemory");
    assert_eq!(code(&to.call("Claim", json!({ "token": "x" }))), "InvalidParameter");
    assert_eq!(to.free(), (1 << 20) - 8192, "a lease that moves isn't two");
    drop(from);
    to.assert_alive();
    assert_eq!(to.call("Unmap", json!({ "lease": lease }))["error"], Value::Null);
}

#[test]
#[ignore = "somebody else in other tests"]
fn role_of_a_caller() {
    caller::play();
}

/// What these calls come to when an ordinary user makes them.
fn as_nobody(daemon: &Daemon, calls: &[Value]) -> Vec<Value> {
    std::mem::take(&mut Caller::start(Some(NOBODY), &daemon.socket(), calls).replies)
}

#[test]
fn a_stranger_is_refused_by_the_rule_that_says_so_and_watchers_hear_of_it() {
    let config = "[[policy.rule]]\nname = \"lookers\"\nusers = [65534]\nallow = [\"watch\"]\n";
    let daemon = Daemon::with_config(config);
    let mut watcher = daemon.connect();
    events(&mut watcher);
    let replies = as_nobody(&daemon, &[call("Map", &map_request(4096)), call("GetStatus", &json!({}))]);
    assert_eq!(code(&replies[0]), "NotAllowed", "{replies:?}");
    assert_eq!(replies[0]["parameters"]["rule"], "lookers");
    assert_eq!(replies[1]["parameters"]["leases"], 0, "the connection lives on");
    let event = next(&mut watcher, "refused");
    assert_eq!((&event["owner"]["uid"], &event["name"]), (&json!(65534), &json!("emulated")), "{event}");
    assert_eq!(event["code"], "io.peermem.Broker.NotAllowed");

    let question = json!({ "uid": 65534, "action": "map", "region": "emulated", "initiator": "emulated" });
    let answer = daemon.connect().call("Explain", question)["parameters"].clone();
    assert_eq!((&answer["allowed"], &answer["decided_by"]), (&json!(false), &json!("lookers")), "{answer}");
}

#[test]
fn sighup_brings_a_new_policy_and_a_wrong_config_changes_nothing() {
    let rule = |allow: &str| {
        format!(
            "[[policy.rule]]\nname = \"tenant\"\nusers = [65534]\nallow = [{allow}]\nleases_per_user = 1\n"
        )
    };
    let daemon = Daemon::with_config(&rule("\"map\""));
    let two = [call("Map", &map_request(4096)), call("Map", &map_request(4096))];
    let replies = as_nobody(&daemon, &two);
    assert_eq!(replies[0]["parameters"]["lease"]["owner"]["uid"], 65534, "{replies:?}");
    assert_eq!(code(&replies[1]), "OverQuota");
    assert_eq!(replies[1]["parameters"]["rule"], "tenant");

    let config = daemon.socket().with_file_name("peermemd.toml");
    std::fs::write(&config, rule("\"map\", \"mop\"")).unwrap();
    daemon.signal("HUP");
    eventually("the daemon complains", || daemon.log().contains("the config stays as it was"));
    assert!(daemon.log().contains("peermemd.toml:4:"), "{}", daemon.log());
    assert_eq!(as_nobody(&daemon, &two[..1])[0]["error"], Value::Null);

    std::fs::write(&config, rule("")).unwrap();
    daemon.signal("HUP");
    eventually("the new config counts", || daemon.log().contains("the new config counts"));
    assert_eq!(code(&as_nobody(&daemon, &two[..1])[0]), "NotAllowed");
}

#[test]
fn what_counts_from_the_next_start_on_is_said_at_every_reload_until_then() {
    let daemon = Daemon::start();
    let config = daemon.socket().with_file_name("peermemd.toml");
    std::fs::write(&config, "[[emulated]]\nname = \"more\"\nsize = \"4MiB\"\n").unwrap();
    for times in 1..=2 {
        daemon.signal("HUP");
        eventually("it says so", || {
            daemon.log().matches("but for emulated: restart the daemon").count() == times
        });
    }
    std::fs::write(&config, "").unwrap();
    daemon.signal("HUP");
    eventually("all is as it was", || daemon.log().contains("the new config counts\n"));
}

#[test]
fn a_user_may_watch_only_so_often_and_ask_only_so_fast() {
    let config = "[limits]\nwatchers_per_user = 0\nrequests_per_second_per_user = 20\n\
                  [[policy.rule]]\nname = \"all\"\nusers = [\"*\"]\nallow = [\"map\", \"watch\"]\n";
    let daemon = Daemon::with_config(config);
    let mut watch = call("Watch", &json!({}));
    watch["more"] = json!(true);
    let refused = as_nobody(&daemon, &[watch]);
    assert_eq!(
        (code(&refused[0]), &refused[0]["parameters"]["key"]),
        ("LimitReached", &json!("watchers_per_user"))
    );
    let began = Instant::now();
    let many: Vec<_> = (0..40).map(|_| call("GetStatus", &json!({}))).collect();
    assert!(as_nobody(&daemon, &many).iter().all(|reply| reply["error"].is_null()), "slowed, not refused");
    assert!(
        began.elapsed() > Duration::from_millis(900),
        "40 requests at 20 a second took {:?}",
        began.elapsed()
    );
    assert!(daemon.metric("peermem_requests_delayed_total") > Some(0.0));
    // Root isn't bound, or it would take a minute.
    let (mut root, began) = (daemon.connect(), Instant::now());
    (0..1200).for_each(|_| root.assert_alive());
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
}
