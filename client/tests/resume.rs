//! Coming back to a daemon that does what the test wants: what is said, in which order, and what is never said.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use peermem::{CallFailed, Client, ConnectError, Holding, Lease, Trouble, proto::LeaseId};
use serde_json::json;
use support::{Daemon, Peer, granted, map, memory};

/// Grants lease 7, then hangs up once the first call about it has come.
fn grants_and_dies(peer: &mut Peer) {
    peer.greet();
    peer.expect("Map");
    peer.reply(granted(7, 4096), vec![memory(4096)]);
    peer.next_call();
    peer.hang_up();
}

fn leasing(daemon: &Daemon) -> (Client, Lease) {
    let client = Client::connect_to(&daemon.socket).unwrap();
    let lease = client.map(&map(4096)).unwrap();
    (client, lease)
}

fn trouble<T: std::fmt::Debug>(outcome: Result<T, CallFailed>) -> Trouble {
    match outcome {
        Err(CallFailed::Lost(lost)) => lost.trouble,
        other => panic!("{other:?}"),
    }
}

#[test]
fn resuming_comes_before_the_call_is_made_again() {
    let daemon = Daemon::serving(2, |peer, turn| {
        if turn == 0 {
            return grants_and_dies(peer);
        }
        peer.greet();
        assert_eq!(peer.expect("Resume"), json!({ "instance": "a", "leases": [7], "regions": [] }));
        peer.reply(json!({ "lost_leases": [], "lost_regions": [] }), vec![]);
        assert_eq!(peer.expect("Unmap")["lease"], 7);
        peer.reply(json!({}), vec![]);
    });
    let (_client, lease) = leasing(&daemon);
    lease.unmap().unwrap();
}

#[test]
fn a_client_without_a_time_limit_comes_back_as_well() {
    let daemon = Daemon::serving(2, |peer, turn| {
        if turn == 0 {
            return grants_and_dies(peer);
        }
        peer.greet();
        peer.expect("Resume");
        peer.reply(json!({ "lost_leases": [], "lost_regions": [] }), vec![]);
        peer.expect("Unmap");
        peer.reply(json!({}), vec![]);
    });
    let (client, lease) = leasing(&daemon);
    client.set_timeout(Duration::MAX);
    lease.unmap().unwrap();
}

#[test]
fn no_call_is_made_about_what_another_daemon_never_granted() {
    let daemon = Daemon::serving(2, |peer, turn| {
        if turn == 0 {
            return grants_and_dies(peer);
        }
        peer.expect("Hello");
        peer.reply(json!({ "protocol": 1, "version": "0", "instance": "another" }), vec![]);
        peer.expect("GetStatus");
        peer.refuse("Draining", json!({}));
    });
    let (client, lease) = leasing(&daemon);
    match lease.renew(None) {
        Err(CallFailed::HoldingLost(lost)) => assert_eq!(lost, Holding::Lease(LeaseId::new(7))),
        other => panic!("{other:?}"),
    }
    drop(lease);
    assert!(matches!(client.status(), Err(CallFailed::Answered(_))));
}

#[test]
fn a_daemon_that_is_stopping_again_is_waited_for() {
    let daemon = Daemon::serving(3, |peer, turn| match turn {
        0 => grants_and_dies(peer),
        1 => {
            peer.greet();
            peer.expect("Resume");
            peer.refuse("Draining", json!({}));
        }
        _ => {
            peer.greet();
            peer.expect("Resume");
            peer.reply(json!({ "lost_leases": [7], "lost_regions": [] }), vec![]);
        }
    });
    let (_client, lease) = leasing(&daemon);
    assert!(matches!(lease.renew(None), Err(CallFailed::HoldingLost(_))));
    assert!(lease.is_lost());
}

#[test]
fn a_daemon_that_stops_before_it_greets_is_followed_by_another() {
    let daemon = Daemon::serving(3, |peer, turn| match turn {
        0 => peer.hang_up(),
        1 => {
            peer.expect("Hello");
            peer.hang_up();
        }
        _ => {
            peer.greet();
            peer.expect("GetStatus");
            peer.refuse("Draining", json!({}));
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    assert!(matches!(client.status(), Err(CallFailed::Answered(_))));
}

#[test]
fn a_daemon_that_greets_nobody_is_given_up() {
    let daemon = Daemon::serving(3, |peer, _| peer.hang_up());
    match Client::connect_to(&daemon.socket) {
        Err(ConnectError::Greeting { source: CallFailed::Lost(_), .. }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resumption_without_an_answer_leaves_the_connection_in_doubt() {
    let daemon = Daemon::serving(2, |peer, turn| {
        if turn == 0 {
            return grants_and_dies(peer);
        }
        peer.greet();
        peer.expect("Resume");
        // Nothing more may be said here, and the connection must stay: the leases may hang on it.
        assert!(peer.next_call().is_none());
    });
    let (client, lease) = leasing(&daemon);
    client.set_timeout(Duration::from_secs(6));
    assert!(matches!(trouble(lease.renew(None)), Trouble::GivenUp { .. }));
    assert!(matches!(trouble(client.status()), Trouble::GivenUp { .. }));
    drop((lease, client));
}

#[test]
fn a_revocation_that_may_be_done_is_not_made_again() {
    let daemon = Daemon::serving(2, |peer, turn| {
        peer.greet();
        if turn == 0 {
            peer.expect("Revoke");
            peer.hang_up();
        } else {
            peer.expect("GetStatus");
            peer.refuse("Draining", json!({}));
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    assert!(matches!(trouble(client.revoke(LeaseId::new(7))), Trouble::Closed));
    assert!(matches!(client.status(), Err(CallFailed::Answered(_))));
}

#[test]
fn a_daemon_that_dies_of_a_call_isn_t_killed_for_ever() {
    let daemon = Daemon::serving(3, |peer, _| {
        peer.greet();
        peer.expect("GetStatus");
        peer.hang_up();
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    assert!(matches!(trouble(client.status()), Trouble::Closed));
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_whose_end_was_cancelled_before_its_turn_ends_all_the_same() {
    let (go_on, goes_on) = std::sync::mpsc::channel();
    let (begins, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::greeting(move |peer| {
        peer.expect("Map");
        peer.reply(granted(7, 4096), vec![memory(4096)]);
        peer.expect("GetStatus");
        begins.send(()).unwrap();
        goes_on.recv().unwrap();
        peer.refuse("Draining", json!({}));
        assert_eq!(peer.expect("Unmap")["lease"], 7);
        peer.reply(json!({}), vec![]);
    });
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    let lease = client.map(&map(4096)).await.unwrap();
    let other = client.clone();
    let first = tokio::spawn(async move { other.status().await });
    begun.recv().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), lease.unmap()).await.is_err());
    go_on.send(()).unwrap();
    assert!(matches!(first.await.unwrap(), Err(CallFailed::Answered(_))));
    tokio::task::spawn_blocking(|| drop(daemon)).await.unwrap();
    drop(client);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_dropped_while_it_comes_back_leaves_the_connection_in_doubt() {
    let (comes, mut came_back) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Daemon::serving(2, move |peer, turn| {
        if turn == 0 {
            return grants_and_dies(peer);
        }
        peer.greet();
        peer.expect("Resume");
        comes.send(()).unwrap();
        assert!(peer.next_call().is_none());
    });
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    let lease = client.map(&map(4096)).await.unwrap();
    tokio::select! {
        renewed = lease.renew(None) => panic!("{renewed:?}"),
        _ = came_back.recv() => {}
    }
    assert!(matches!(trouble(client.status().await), Trouble::GivenUp { .. }));
    drop((lease, client));
    tokio::task::spawn_blocking(|| drop(daemon)).await.unwrap();
}
