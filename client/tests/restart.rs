//! What clients have outlives the daemon: against the real one, ended and started again.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use peermem::{
    CallFailed, Client, ConnectError, ConnectionError, Holding, Lease, Trouble,
    proto::{Refusal, varlink::CallError},
};
use rustix::process::Signal;
use support::{
    map,
    real::{Daemon, eventually},
};

const PAGE: u64 = 4096;

fn leases(client: &Client, count: usize) -> Vec<Lease> {
    (0..count).map(|_| client.map(&map(PAGE)).unwrap()).collect()
}

/// How many leases there are, and how many wait for their clients, as somebody else sees it.
fn counted(daemon: &Daemon) -> (u64, u64) {
    let status = Client::connect_to(&daemon.socket).unwrap().status().unwrap();
    (status.leases, status.waiting)
}

#[test]
fn a_hundred_leases_outlive_the_daemon_while_their_memory_is_used() {
    for by in [Signal::TERM, Signal::KILL] {
        let mut daemon = Daemon::start();
        let client = Client::connect_to(&daemon.socket).unwrap();
        let held = leases(&client, 100);
        let mapping = held[0].mapping().unwrap();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let transfer = scope.spawn(|| {
                let mut round = 0_u64;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    mapping.copy_from_slice(8, &round.to_le_bytes()).unwrap();
                    let mut back = [0; 8];
                    mapping.copy_to_slice(8, &mut back).unwrap();
                    assert_eq!(back, round.to_le_bytes());
                }
                round
            });
            daemon.end(by);
            daemon.start_again();
            // The call that finds the daemon gone is the one that comes back.
            assert_eq!(client.leases().unwrap().len(), 100, "after {by:?}");
            over.store(true, Ordering::Relaxed);
            assert!(transfer.join().unwrap() > 0);
        });
        assert_eq!(counted(&daemon), (100, 0), "after {by:?}");
        for lease in held {
            assert!(!lease.is_lost());
            lease.unmap().unwrap();
        }
        assert_eq!(counted(&daemon), (0, 0));
    }
}

#[test]
fn an_idle_client_comes_back_by_itself() {
    let mut daemon = Daemon::with_config("[leases]\nresume_grace_secs = 5\n");
    let client = Client::connect_to(&daemon.socket).unwrap();
    let held = leases(&client, 3);
    for by in [Signal::KILL, Signal::TERM] {
        daemon.end(by);
        // Longer than the thread's first pauses.
        thread::sleep(Duration::from_millis(300));
        daemon.start_again();
        eventually("the leases are resumed", || counted(&daemon) == (3, 0));
    }
    thread::sleep(Duration::from_secs(6));
    assert_eq!(counted(&daemon), (3, 0), "after the grace period");
    assert!(held.iter().all(|lease| !lease.is_lost()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_asynchronous_client_comes_back_by_itself() {
    let mut daemon = Daemon::start();
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    let lease = client.map(&map(PAGE)).await.unwrap();
    for by in [Signal::KILL, Signal::TERM] {
        daemon = tokio::task::spawn_blocking(move || {
            daemon.end(by);
            thread::sleep(Duration::from_millis(300));
            daemon.start_again();
            eventually("the lease is resumed", || counted(&daemon) == (1, 0));
            daemon
        })
        .await
        .unwrap();
    }
    // And by a call, before the task is there.
    daemon.end(Signal::KILL);
    daemon.start_again();
    lease.renew(None).await.unwrap();
    assert!(!lease.is_lost());
    lease.unmap().await.unwrap();
}

#[test]
fn a_daemon_without_its_journal_has_lost_the_leases_and_says_so() {
    let mut daemon = Daemon::start();
    let client = Client::connect_to(&daemon.socket).unwrap();
    let lease = client.map(&map(PAGE)).unwrap();
    let mapping = lease.mapping().unwrap();
    daemon.end(Signal::KILL);
    daemon.forget();
    daemon.start_again();
    let id = lease.info().id;
    match lease.renew(None) {
        Err(CallFailed::HoldingLost(Holding::Lease(lost))) => assert_eq!(lost, id),
        other => panic!("{other:?}"),
    }
    assert!(lease.is_lost());
    // The memory is still the kernel's to give.
    mapping.copy_from_slice(0, b"still here").unwrap();
    // The new table counts from 1 again: the old lease's end must not be taken for the new one's.
    let again = client.map(&map(PAGE)).unwrap();
    assert_eq!(again.info().id, id);
    drop(lease);
    again.renew(None).unwrap();
    assert_eq!(counted(&daemon), (1, 0));
}

#[test]
fn calls_wait_for_the_daemon_within_bounds_and_find_it_later() {
    let mut daemon = Daemon::start();
    let client = Client::connect_to(&daemon.socket).unwrap();
    let lease = client.map(&map(PAGE)).unwrap();
    let patience = Duration::from_millis(200);
    client.set_patience(patience);
    daemon.end(Signal::KILL);
    match client.status() {
        Err(CallFailed::Lost(ConnectionError { trouble: Trouble::NotBack { after, source }, .. })) => {
            assert!(after >= patience, "{after:?}");
            assert!(matches!(*source, ConnectError::NobodyListens { .. }), "{source:?}");
        }
        other => panic!("{other:?}"),
    }
    daemon.start_again();
    client.status().unwrap();
    assert!(!lease.is_lost());
    lease.unmap().unwrap();
}

#[test]
fn a_lease_dropped_while_the_daemon_is_away_waits_for_nothing() {
    let mut daemon = Daemon::with_config("[leases]\nresume_grace_secs = 5\n");
    let client = Client::connect_to(&daemon.socket).unwrap();
    let mut held = leases(&client, 2);
    daemon.end(Signal::KILL);
    drop(held.pop());
    daemon.start_again();
    eventually("the other one is resumed, and this one has ended", || counted(&daemon) == (1, 0));
    held.pop().unwrap().unmap().unwrap();
}

#[test]
fn threads_that_call_during_restarts_lose_nothing() {
    let mut daemon = Daemon::with_config("[leases]\nresume_grace_secs = 5\n");
    let client = Client::connect_to(&daemon.socket).unwrap();
    let (over, kept) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let refused = Refusal::Draining {};
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mine = client.map(&map(PAGE)).unwrap();
                while !over.load(Ordering::Relaxed) {
                    match client.map(&map(PAGE)) {
                        // Its end may be what the killed daemon did last.
                        Ok(lease) => match lease.unmap() {
                            Ok(()) | Err(CallFailed::HoldingLost(_)) => {}
                            Err(error) => panic!("{error:?}"),
                        },
                        // Told by a daemon that is about to stop.
                        Err(CallFailed::Answered(CallError::Refusal(answer))) if answer == refused => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    match mine.renew(None) {
                        Ok(()) => {}
                        Err(CallFailed::Answered(CallError::Refusal(answer))) if answer == refused => {}
                        Err(error) => panic!("{error:?}"),
                    }
                }
                kept.lock().unwrap().push(mine);
            });
        }
        for by in [Signal::KILL, Signal::TERM, Signal::KILL, Signal::TERM] {
            thread::sleep(Duration::from_millis(200));
            daemon.end(by);
            daemon.start_again();
        }
        over.store(true, Ordering::Relaxed);
    });
    let kept = kept.into_inner().unwrap();
    assert!(kept.len() == 8 && kept.iter().all(|lease| !lease.is_lost()));
    // What was granted and never heard of ends with the grace period.
    eventually("only the kept leases are left", || counted(&daemon) == (8, 0));
    drop(kept);
    assert_eq!(counted(&daemon), (0, 0));
}
