//! A process without room for the descriptor of a grant. Alone in its file: the shortage hits the whole process.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::File;

use peermem::{CallFailed, Client};
use serde_json::json;
use support::{Daemon, granted, map, memory};

#[test]
fn a_grant_that_finds_no_room_is_given_back() {
    let daemon = Daemon::greeting(|peer| {
        let memory = memory(4096);
        peer.expect("GetStatus");
        peer.refuse("Draining", json!({}));
        for lease in [7, 8] {
            peer.expect("Map");
            peer.lend(granted(lease, 4096), &memory);
            assert_eq!(peer.expect("Unmap")["lease"], lease);
            peer.reply(json!({}), vec![]);
        }
    });
    let client = Client::connect_to(&daemon.socket).unwrap();
    // Once this is answered, the daemon (a thread of this process) opens nothing more.
    assert!(matches!(client.status(), Err(CallFailed::Answered(_))));
    let mut hoard = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        hoard.push(file);
    }
    let error = client.map(&map(4096)).unwrap_err();
    assert!(matches!(error, CallFailed::NoFreeDescriptor { .. }), "{error:?}");
    drop(hoard);
    // The connection goes on.
    client.map(&map(4096)).unwrap().unmap().unwrap();
}
