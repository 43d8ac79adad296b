//! Leases and what hangs on them, against a daemon that behaves.
#![allow(clippy::unwrap_used)]

mod support;

use std::{sync::Arc, thread};

use peermem::{CallFailed, Client, CopyError, proto::Event};
use serde_json::json;
use support::{Daemon, granted, lease, map, memory, region};

const LENGTH: u64 = 8192;

/// Bytes without a period (xorshift64*), so that a misplaced copy shows.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()[7]
    };
    (0..length).map(|_| next()).collect()
}

fn granting_one() -> Daemon {
    Daemon::greeting(|peer| {
        assert_eq!(peer.expect("Map")["length"], LENGTH);
        peer.reply(granted(7, LENGTH), vec![memory(LENGTH)]);
        assert_eq!(peer.expect("Unmap")["lease"], 7);
        peer.reply(json!({}), vec![]);
    })
}

#[test]
fn a_lease_is_memory_until_it_is_given_back() {
    let daemon = granting_one();
    let lease = Client::connect_to(&daemon.socket).unwrap().map(&map(LENGTH)).unwrap();
    let mapping = lease.mapping().unwrap();
    assert_eq!(mapping.len() as u64, LENGTH);
    let bytes = noise(1021);
    // Every alignment of start and end.
    for offset in 0..16 {
        mapping.copy_from_slice(offset, &bytes[offset..]).unwrap();
        let mut back = vec![0; bytes.len() - offset];
        mapping.copy_to_slice(offset, &mut back).unwrap();
        assert_eq!(back, bytes[offset..], "from offset {offset}");
    }
    // A second view is the same memory, not a second allocation.
    assert!(Arc::ptr_eq(&mapping, &lease.mapping().unwrap()));
    drop(mapping);
    lease.unmap().unwrap();
}

#[test]
fn copies_stay_inside() {
    let daemon = granting_one();
    let lease = Client::connect_to(&daemon.socket).unwrap().map(&map(LENGTH)).unwrap();
    let mapping = lease.mapping().unwrap();
    let size = mapping.len();
    mapping.copy_from_slice(size, &[]).unwrap();
    mapping.copy_from_slice(size - 1, &[1]).unwrap();
    for offset in [size, size + 1, usize::MAX] {
        let outside = mapping.copy_to_slice(offset, &mut [0]);
        assert!(matches!(outside, Err(CopyError::Memory(_))), "{outside:?} at {offset}");
    }
    assert!(matches!(mapping.copy_from_slice(1, &vec![0; size]), Err(CopyError::Memory(_))));
}

#[test]
fn a_dropped_lease_is_given_back() {
    let daemon = granting_one();
    drop(Client::connect_to(&daemon.socket).unwrap().map(&map(LENGTH)).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_dropped_by_a_task_is_given_back() {
    let daemon = granting_one();
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    drop(client.map(&map(LENGTH)).await.unwrap());
    tokio::task::spawn_blocking(|| drop(daemon)).await.unwrap();
}

#[test]
fn dropping_a_lease_of_a_dead_daemon_does_nothing_bad() {
    let daemon = Daemon::greeting(|peer| {
        peer.expect("Map");
        peer.reply(granted(7, LENGTH), vec![memory(LENGTH)]);
        peer.hang_up();
    });
    let lease = Client::connect_to(&daemon.socket).unwrap().map(&map(LENGTH)).unwrap();
    drop(daemon);
    drop(lease);
}

#[test]
fn a_dropped_region_is_taken_back() {
    let daemon = Daemon::greeting(|peer| {
        let call = peer.expect("Register");
        assert_eq!((&call["name"], &call["device"]), (&json!("vram"), &json!("0000:01:00.0")));
        peer.reply(json!({ "region": region("vram") }), vec![]);
        assert_eq!(peer.expect("Unregister")["region"], "vram");
        peer.reply(json!({}), vec![]);
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    let dmabuf = memory(4096);
    let (name, device) = ("vram".parse().unwrap(), "0000:01:00.0".parse().unwrap());
    let region =
        client.register(name, device, std::os::fd::AsFd::as_fd(&dmabuf), Default::default()).unwrap();
    assert_eq!(region.region().name.as_str(), "vram");
}

#[test]
fn pages_become_one_list() {
    let daemon = Daemon::greeting(|peer| {
        assert_eq!(peer.expect("ListLeases"), json!({}));
        peer.reply(json!({ "leases": [lease(1, 4096), lease(2, 4096)], "more": true }), vec![]);
        assert_eq!(peer.expect("ListLeases"), json!({ "after": 2 }));
        peer.reply(json!({ "leases": [lease(5, 4096)], "more": false }), vec![]);
    });
    let leases = Client::connect_to(&daemon.socket).unwrap().leases().unwrap();
    assert_eq!(leases.iter().map(|lease| lease.id.get()).collect::<Vec<_>>(), [1, 2, 5]);
}

#[test]
fn threads_take_turns() {
    let daemon = Daemon::greeting(|peer| {
        for id in 1..=64 {
            let length = peer.expect("Map")["length"].as_u64().unwrap();
            peer.reply(granted(id, length), vec![memory(length)]);
            peer.expect("Unmap");
            peer.reply(json!({}), vec![]);
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    let turn = std::sync::Mutex::new(());
    thread::scope(|scope| {
        for length in [4096, 8192, 12288, 16384] {
            let (client, turn) = (&client, &turn);
            scope.spawn(move || {
                for _ in 0..16 {
                    // The script wants a mapping and its end in turn; the calls themselves race for the connection.
                    let _turn = turn.lock().unwrap();
                    let lease = client.map(&map(length)).unwrap();
                    assert_eq!(lease.info().length.get(), length);
                }
            });
        }
    });
}

#[test]
fn events_come_as_they_happen() {
    let daemon = Daemon::serving(2, |peer, turn| {
        peer.greet();
        if turn == 1 {
            peer.expect("Watch");
            peer.stream(json!({}));
            peer.stream(json!({ "event": { "kind": "region_gone", "name": "a" } }));
            peer.stream(json!({ "event": { "kind": "lease_granted", "lease": lease(3, 4096) } }));
            peer.refuse("WatcherTooSlow", json!({ "lost": 9, "message": "" }));
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    let mut watch = client.watch().unwrap();
    assert!(matches!(watch.next(), Some(Ok(Event::RegionGone { name })) if name.as_str() == "a"));
    let granted = loop {
        match watch.try_next().unwrap() {
            Some(event) => break event,
            None => std::thread::yield_now(),
        }
    };
    assert!(matches!(granted, Event::LeaseGranted { lease } if lease.id.get() == 3));
    assert!(matches!(watch.next(), Some(Err(CallFailed::Answered(_)))));
    assert!(watch.next().is_none());
    assert!(matches!(watch.try_next(), Err(CallFailed::Lost(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_wait_loses_no_event() {
    let (go_on, goes_on) = std::sync::mpsc::channel();
    let daemon = Daemon::serving(2, move |peer, turn| {
        peer.greet();
        if turn == 1 {
            peer.expect("Watch");
            peer.stream(json!({}));
            peer.raw(b"{\"continues\":true,\"parameters\":{\"event\":");
            goes_on.recv().unwrap();
            peer.raw(b"{\"kind\":\"region_gone\",\"name\":\"a\"}}}\0");
        }
    });
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    let mut watch = client.watch().await.unwrap();
    let too_short = tokio::time::timeout(std::time::Duration::from_millis(50), watch.next()).await;
    assert!(too_short.is_err(), "{too_short:?}");
    go_on.send(()).unwrap();
    assert!(matches!(watch.next().await, Some(Ok(Event::RegionGone { .. }))));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_call_ends_the_connections_use() {
    let daemon = Daemon::greeting(|peer| {
        peer.expect("GetStatus");
        while peer.next_call().is_some() {}
    });
    let client = peermem::aio::Client::connect_to(&daemon.socket).await.unwrap();
    let short = std::time::Duration::from_millis(50);
    assert!(tokio::time::timeout(short, client.status()).await.is_err());
    let message = match client.status().await {
        Err(CallFailed::Lost(lost)) => lost.trouble.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(message.contains("GetStatus was abandoned"), "{message}");
    drop(client);
    tokio::task::spawn_blocking(|| drop(daemon)).await.unwrap();
}
