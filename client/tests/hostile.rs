//! Wrong answers, each held against both clients: a typed error, no descriptor kept, and no reply mistaken for another.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs::File, io::Read, os::fd::OwnedFd, path::Path, time::Duration};

use peermem::{CallFailed, Client, ConnectError, ConnectionError, Trouble, proto::varlink::CallError};
use peermem_wire::{MAX_FDS, MAX_MESSAGE};
use serde_json::json;
use support::{Daemon, Peer, granted, lease, map, memory};

/// How long the clients wait for an answer: longer than any that comes takes, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(6);

/// What came of a mapping that was asked for, and of a call made after it.
type Outcome = (CallFailed, Result<(), CallFailed>);

fn blocking(socket: &Path) -> Outcome {
    let client = Client::connect_to(socket).unwrap();
    client.set_timeout(PATIENCE);
    client.set_patience(Duration::ZERO);
    (client.map(&map(4096)).map(|_| ()).unwrap_err(), client.status().map(|_| ()))
}

fn yielding(socket: &Path) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = peermem::aio::Client::connect_to(socket).await.unwrap();
        client.set_timeout(PATIENCE).await;
        client.set_patience(Duration::ZERO).await;
        (client.map(&map(4096)).await.map(|_| ()).unwrap_err(), client.status().await.map(|_| ()))
    })
}

/// Lets both clients ask for a mapping, which `answer` answers; `expected` judges what they made of it.
fn both(answer: fn(&mut Peer), expected: fn(&Trouble) -> bool) {
    // Whatever still comes must not be taken for another call's reply.
    both_then(answer, expected, |after| matches!(after, Trouble::GivenUp { .. }));
}

/// A daemon that is gone is looked for once more at every call, and stays gone. Its listener may be there a moment longer.
fn both_alone(answer: fn(&mut Peer)) {
    let is_away = |trouble: &Trouble| matches!(trouble, Trouble::NotBack { .. });
    both_then(answer, is_away, is_away);
}

fn both_then(answer: fn(&mut Peer), expected: fn(&Trouble) -> bool, then: fn(&Trouble) -> bool) {
    for client in [blocking, yielding] {
        let daemon = Daemon::greeting(move |peer| {
            peer.expect("Map");
            answer(peer);
            while peer.next_call().is_some() {}
        });
        let (failed, after) = client(&daemon.socket);
        match failed {
            CallFailed::Lost(ConnectionError { trouble, method, socket }) => {
                assert!(expected(&trouble), "{trouble:?}");
                assert_eq!(method, "io.peermem.Broker.Map");
                assert_eq!(socket, daemon.socket);
            }
            other => panic!("{other:?}"),
        }
        let Err(CallFailed::Lost(ConnectionError { trouble, .. })) = after else { panic!("{after:?}") };
        assert!(then(&trouble), "{trouble:?}");
    }
}

#[test]
fn a_mapping_without_a_descriptor() {
    both(
        |peer| peer.reply(granted(1, 4096), vec![]),
        |trouble| matches!(trouble, Trouble::Descriptors { got: 0, expected: 1 }),
    );
}

#[test]
fn a_descriptor_index_that_did_not_come() {
    both(
        |peer| {
            let reply = json!({ "lease": lease(1, 4096), "memory_fd": 1, "memory_offset": 0 });
            peer.reply(reply, vec![memory(4096)]);
        },
        |trouble| matches!(trouble, Trouble::DescriptorIndex { index: 1, got: 1 }),
    );
}

#[test]
fn too_many_descriptors_are_closed() {
    for client in [blocking, yielding] {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let daemon = Daemon::greeting(move |peer| {
            peer.expect("Map");
            let copies: Vec<OwnedFd> = (0..MAX_FDS).map(|_| write.try_clone().unwrap()).collect();
            peer.reply(granted(1, 4096), copies);
        });
        let (failed, _) = client(&daemon.socket);
        assert!(failed.to_string().contains("lost"), "{failed}");
        drop(daemon);
        // Every copy is closed, or this would wait for ever.
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_descriptor_beside_a_refusal() {
    both(
        |peer| {
            let refusal = r#"{"error":"io.peermem.Broker.Draining","parameters":{}}"#;
            peer.say(refusal, vec![memory(4096)]);
        },
        |trouble| matches!(trouble, Trouble::Descriptors { got: 1, expected: 0 }),
    );
}

#[test]
fn half_a_json_object() {
    both(|peer| peer.say(r#"{"parameters":{"lease""#, vec![]), |t| matches!(t, Trouble::Malformed(_)));
}

#[test]
fn another_methods_reply() {
    both(
        |peer| peer.reply(json!({ "regions": [], "more": false }), vec![memory(4096)]),
        |t| matches!(t, Trouble::Malformed(_)),
    );
}

#[test]
fn no_json_at_all() {
    both(|peer| peer.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n\0"), |t| matches!(t, Trouble::Malformed(_)));
}

#[test]
fn a_reply_without_an_end() {
    both(|peer| peer.raw(&vec![b' '; MAX_MESSAGE + 1]), |t| matches!(t, Trouble::TooLong(_)));
}

#[test]
fn silence() {
    both(|_| {}, |t| matches!(t, Trouble::TimedOut { after } if *after == PATIENCE));
}

#[test]
fn half_a_reply_then_silence() {
    both(|peer| peer.raw(b"{\"parameters\":"), |t| matches!(t, Trouble::TimedOut { .. }));
}

#[test]
fn death_before_the_reply() {
    both_alone(Peer::hang_up);
}

#[test]
fn death_inside_the_reply() {
    both_alone(|peer| {
        peer.raw(b"{\"parameters\":");
        peer.hang_up();
    });
}

#[test]
fn a_stream_that_nobody_asked_for() {
    both(
        |peer| peer.say(&json!({ "parameters": granted(1, 4096), "continues": true }).to_string(), vec![]),
        |t| matches!(t, Trouble::Unsolicited),
    );
}

#[test]
fn a_reply_too_many() {
    let daemon = Daemon::greeting(|peer| {
        peer.expect("GetStatus");
        peer.raw(b"{\"error\":\"io.peermem.Broker.Draining\"}\0{\"error\":\"io.peermem.Broker.Draining\"}\0");
        while peer.next_call().is_some() {}
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    assert!(matches!(client.status(), Err(CallFailed::Answered(_))));
    let Err(CallFailed::Lost(lost)) = client.status() else { panic!("a stale reply was taken") };
    assert!(matches!(lost.trouble, Trouble::Unsolicited), "{lost:?}");
    drop(client);
}

#[test]
fn a_code_of_tomorrow_leaves_the_connection_whole() {
    for client in [blocking, yielding] {
        let daemon = Daemon::greeting(|peer| {
            peer.expect("Map");
            peer.refuse("FromTomorrow", json!({ "message": "not before Monday" }));
            peer.expect("GetStatus");
            peer.refuse("Draining", json!({}));
        });
        let (failed, after) = client(&daemon.socket);
        match failed {
            CallFailed::Answered(CallError::Unknown { code, message }) => {
                assert_eq!(code, "io.peermem.Broker.FromTomorrow");
                assert_eq!(message, "not before Monday");
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(after, Err(CallFailed::Answered(CallError::Refusal(_)))));
    }
}

#[test]
fn a_list_that_repeats_itself() {
    let daemon = Daemon::greeting(|peer| {
        for _ in 0..2 {
            peer.expect("ListRegions");
            peer.reply(json!({ "regions": [support::region("a")], "more": true }), vec![]);
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    let Err(CallFailed::Lost(lost)) = client.regions() else { panic!("an endless list was taken") };
    assert!(matches!(lost.trouble, Trouble::Pages), "{lost:?}");
}

#[test]
fn a_refusal_of_the_connection_itself() {
    // The daemon doesn't read, so that sending the greeting may fail before the refusal is read.
    let daemon = Daemon::serving(1, |peer, _| {
        let why = json!({ "what": "connections", "key": "connections_per_user", "limit": 8, "message": "" });
        peer.refuse("LimitReached", why);
        peer.hang_up();
    });
    match Client::connect_to(&daemon.socket) {
        Err(ConnectError::Greeting { source: CallFailed::Answered(refusal), .. }) => {
            assert_eq!(refusal.code(), "io.peermem.Broker.LimitReached");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_protocol() {
    let daemon = Daemon::serving(1, |peer, _| {
        peer.expect("Hello");
        peer.reply(json!({ "protocol": 2, "version": "9", "instance": "a" }), vec![]);
    });
    assert!(matches!(Client::connect_to(&daemon.socket), Err(ConnectError::WrongVersion { theirs: 2, .. })));
}

#[test]
fn nobody_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let error = Client::connect_to(&path).unwrap_err();
    assert!(matches!(error, ConnectError::NotFound { .. }));
    assert!(error.to_string().contains("peermemd --emulate 64MiB"), "{error}");

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(Client::connect_to(&path), Err(ConnectError::NobodyListens { .. })));
}
