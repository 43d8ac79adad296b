//! The thread that comes back for leases: alone in its file, since it counts this process's threads.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf};

use peermem::Client;
use support::{
    map,
    real::{Daemon, eventually},
};

/// The folders in `/proc` of this process's threads of that kind.
fn guards() -> Vec<PathBuf> {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap().path());
    threads
        .filter(|thread| fs::read_to_string(thread.join("comm")).is_ok_and(|name| name == "peermem-resume\n"))
        .collect()
}

/// How often the thread has gone to sleep.
fn sleeps(thread: &std::path::Path) -> String {
    let status = fs::read_to_string(thread.join("status")).unwrap();
    status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).unwrap().to_owned()
}

#[test]
fn a_thread_sleeps_as_long_as_something_is_held_and_ends_with_the_client() {
    let daemon = Daemon::start();
    let client = Client::connect_to(&daemon.socket).unwrap();
    client.status().unwrap();
    assert!(guards().is_empty(), "nothing is held yet");
    let lease = client.map(&map(4096)).unwrap();
    eventually("it has its name", || !guards().is_empty());
    let [guard] = &guards()[..] else { panic!("one thread was expected") };
    eventually("it sleeps", || fs::read_to_string(guard.join("stat")).unwrap().contains(") S "));
    let before = sleeps(guard);
    for _ in 0..50 {
        client.status().unwrap();
    }
    drop(client.map(&map(4096)).unwrap());
    assert_eq!(guards().len(), 1, "one is enough");
    assert_eq!(sleeps(guard), before, "replies wake nobody");
    let clone = client.clone();
    drop((client, lease));
    assert_eq!(guards().len(), 1, "a clone is left");
    drop(clone);
    eventually("the thread ends", || guards().is_empty());
}
