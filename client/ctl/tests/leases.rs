//! Leases that are held, watched over and taken, by the commands against a running daemon.
#![allow(clippy::unwrap_used)]

mod support;

use std::{io::Write, thread, time::Duration};

use peermem::proto::{Explanation, LeaseState, Owner, call::RevokeReply};
use rustix::process::Signal;
use support::{Daemon, eventually, failure, signal};

#[test]
fn a_holder_outlives_the_daemon() {
    let mut daemon = Daemon::start();
    let (mut holder, lease) = daemon.holding(&[]);
    for by in [Signal::TERM, Signal::KILL] {
        daemon.end(by);
        daemon.start_again();
        eventually("the lease is resumed", || daemon.leases() == [lease.clone()]);
    }
    signal(&holder.process, Signal::INT);
    assert_eq!(holder.end(), 0);
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_holder_whose_lease_was_forgotten_says_so() {
    let mut daemon = Daemon::start();
    let (holder, _) = daemon.holding(&[]);
    daemon.end(Signal::KILL);
    daemon.forget();
    daemon.start_again();
    let (exit, code, message) = holder.failure();
    assert_eq!((exit, code.as_str()), (7, "lease_over"), "{message}");
    assert!(message.contains("lease 1 is over: the daemon doesn't have it any more"), "{message}");
}

#[test]
fn a_revoked_lease_is_given_back_with_the_reason() {
    let daemon = Daemon::start();
    let (holder, lease) = daemon.holding(&[]);
    let (other, _) = daemon.holding(&[]);
    let id = lease.id.to_string();
    // One that isn't there doesn't keep the others.
    let output = daemon.ctl(&["revoke", "99", &id]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("UnknownLease"), "{output:?}");
    let reply: RevokeReply = serde_json::from_slice(&output.stdout).unwrap();
    assert!(reply.client_must.contains("give it back"), "{reply:?}");

    let (exit, code, message) = holder.failure();
    assert_eq!((exit, code.as_str()), (7, "lease_over"), "{message}");
    assert!(message.contains("revoked by the administrator") && message.contains("let go"), "{message}");
    eventually("only the other lease is left", || daemon.leases().len() == 1);
    drop(other);
}

#[test]
fn a_lease_that_expires_is_renewed_unless_that_is_not_wanted() {
    let daemon = Daemon::start();
    let (_renewed, lease) = daemon.holding(&["--lease-secs", "8"]);
    let (left_alone, _) = daemon.holding(&["--lease-secs", "8", "--no-renew"]);
    let table = daemon.text(&["leases"]);
    assert!(table.contains("expires") && !table.contains("state"), "{table}");
    let (exit, _, message) = left_alone.failure();
    assert_eq!(exit, 7, "{message}");
    assert!(message.contains("expired"), "{message}");
    // By now the other one would have expired too.
    thread::sleep(Duration::from_secs(2));
    let [still] = &daemon.leases()[..] else { panic!("one lease was expected") };
    assert_eq!((still.id, still.state), (lease.id, LeaseState::Active {}));
    assert!(still.expires_at > lease.expires_at);
}

#[test]
fn a_lease_goes_from_process_to_process() {
    let daemon = Daemon::start();
    let (mut giver, lease) = daemon.holding(&["--delegate"]);
    let token = giver.next_line()["token"].as_str().unwrap().to_owned();
    let (mut taker, taken) = daemon.holder(&["claim", &token]);
    assert_eq!((taken.id, taken.owner.pid), (lease.id, taker.process.id()));
    assert_eq!(giver.end(), 0);
    assert_eq!(daemon.leases(), [taken]);

    // A token is good once.
    let (exit, code, message) = failure(&daemon.ctl(&["claim", &token]));
    assert_eq!((exit, code.as_str()), (1, "io.peermem.Broker.UnknownToken"), "{message}");
    drop(taker.process.stdin.take());
    assert_eq!(taker.end(), 0);
    assert!(daemon.leases().is_empty());
}

#[test]
fn a_token_on_standard_input_is_seen_by_nobody_else() {
    let daemon = Daemon::start();
    let (mut giver, _) = daemon.holding(&["--delegate"]);
    let token = giver.next_line()["token"].as_str().unwrap().to_owned();
    let mut command = daemon.command(&["claim"]);
    let mut taker =
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    writeln!(taker.stdin.take().unwrap(), "{token}").unwrap();
    assert_eq!(giver.end(), 0);
    let Owner { pid, .. } = daemon.leases()[0].owner;
    assert_eq!(pid, taker.id(), "it holds on after the end of its input");
    signal(&taker, Signal::TERM);
    assert_eq!(support::end(&mut taker), 0);

    let (exit, code, message) = failure(&daemon.ctl(&["claim"]));
    assert_eq!((exit, code.as_str()), (2, "usage"), "{message}");
}

#[test]
fn who_is_asked_for_a_token_can_be_ended() {
    let daemon = Daemon::start();
    let mut taker = daemon.command(&["claim"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let wchan = format!("/proc/{}/wchan", taker.id());
    eventually("it waits for the token", || {
        std::fs::read_to_string(&wchan).is_ok_and(|place| place.contains("pipe_read"))
    });
    signal(&taker, Signal::TERM);
    eventually("it has ended", || taker.try_wait().unwrap().is_some());
}

#[test]
fn a_token_that_nobody_uses_leaves_nothing_behind() {
    let daemon = Daemon::start();
    let (mut giver, _) = daemon.holding(&["--delegate"]);
    giver.next_line();
    signal(&giver.process, Signal::INT);
    let (exit, code, message) = giver.failure();
    assert_eq!((exit, code.as_str()), (1, "failed"), "{message}");
    assert!(message.contains("nobody has claimed lease 1"), "{message}");
    assert!(daemon.leases().is_empty());
}

#[test]
fn leases_are_picked_by_region_user_and_patience() {
    let daemon = Daemon::with_config("[leases]\nrevoke_grace_secs = 0\n");
    let (_held, lease) = daemon.holding(&[]);
    let count =
        |arguments: &[&str]| daemon.json(&[&["leases"], arguments].concat()).as_array().unwrap().len();
    assert_eq!((count(&["--region", "emulated"]), count(&["--region", "other"])), (1, 0));
    assert_eq!((count(&["--mine"]), count(&["--overdue"])), (1, 0));
    let table = daemon.text(&["leases"]);
    assert!(!table.contains("state") && !table.contains("expires"), "{table}");
    assert_eq!(daemon.text(&["leases", "--overdue"]), "no leases\n");
    let nowhere = daemon.text(&["leases", "--region", "emulatde"]);
    assert!(nowhere.starts_with("no leases: there is no region emulatde"), "{nowhere}");
    assert!(!daemon.text(&["regions"]).contains("missing"));

    // Somebody who doesn't listen.
    let client = peermem::Client::connect_to(&daemon.socket).unwrap();
    let request = peermem::proto::call::Map::new(
        lease.region.clone(),
        peermem::proto::Extent::Size(lease.length),
        [peermem::proto::Initiator::Emulated],
        lease.direction,
    );
    let deaf = client.map(&request).unwrap();
    client.revoke(deaf.info().id).unwrap();
    eventually("the lease is overdue", || count(&["--overdue"]) == 1);
    let table = daemon.text(&["leases"]);
    assert!(table.contains("state") && table.contains("overdue"), "{table}");
    let status = daemon.text(&["status"]);
    assert!(status.contains("1 overdue: see `peermemctl leases --overdue`"), "{status}");
}

#[test]
fn the_policy_is_explained_rule_by_rule() {
    let config =
        "[[policy.rule]]\nname = \"tenant-a\"\nusers = [4000001]\nregions = [\"gpu*\"]\nallow = [\"map\"]\n";
    let daemon = Daemon::with_config(config);
    let asked = |more: &[&str]| {
        let output = daemon.ctl(&[&["explain", "--user", "4000001"], more].concat());
        let explanation: Explanation = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), explanation)
    };
    let (exit, yes) = asked(&["--region", "gpu0"]);
    assert!(exit == 0 && yes.allowed && yes.decided_by.as_deref() == Some("tenant-a"), "{yes:?}");
    let (exit, no) = asked(&["--region", "emulated"]);
    assert!(exit == 1 && !no.allowed, "{no:?}");
    let tenant = no.rules.iter().find(|rule| rule.rule == "tenant-a").unwrap();
    assert_eq!(tenant.mismatches, ["regions"]);
    let (exit, _) = asked(&["--action", "watch"]);
    assert_eq!(exit, 1);

    let text = daemon.text(&["explain", "--user", "4000001", "--group", "4000001", "--region", "gpu0"]);
    assert!(text.starts_with("allowed: ") && text.contains("decides"), "{text}");
    for (arguments, words) in [
        (&["--user", "4000001"][..], "name it by --region"),
        (&["--user", "no-such-user", "--region", "gpu0"], "no user is named no-such-user"),
        (
            &["--user", "root", "--group", "no-such-group", "--region", "gpu0"],
            "no group is named no-such-group",
        ),
    ] {
        let (exit, code, message) = failure(&daemon.ctl(&[&["explain"], arguments].concat()));
        assert_eq!((exit, code.as_str()), (2, "usage"), "{arguments:?}: {message}");
        assert!(message.contains(words), "{message}");
    }
}
