//! A drive that is unplugged while it is used: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs, time::Instant};

use peermem::{Client, DirectIoError};
use peermem_proto::{ByteLen, Event, LeaseEnd, LeaseId, Region, RegionName};
use peermem_scenarios::{
    daemon::{Daemon, Journal},
    drive::Drive,
    events::Events,
    leased::{request, rxe},
    mover::{Pair, be_mover, be_target},
    peers::{CpuAccess, in_words},
    plug::Unplugged,
    role::{Role, repeat_until_let_go, say, until_let_go},
    wait::until_seen,
};

const SIZE: ByteLen = ByteLen::new(1 << 20);

#[test]
#[ignore = "the process whose drive is unplugged"]
fn role_of_a_target() {
    be_target();
}

#[test]
#[ignore = "the process that writes to it"]
fn role_of_a_mover() {
    be_mover();
}

/// Has drive B read its own disk into the memory of drive A, until that fails.
#[test]
#[ignore = "the process that reads the disk which is unplugged"]
fn role_of_a_disk_reader() {
    let [a, b] = ["a", "b"].map(Drive::named);
    let lease = Client::connect().unwrap().map(&request(a.region(), SIZE, &[b.initiator()])).unwrap();
    let (memory, disk) = (lease.mapping().unwrap(), b.direct());
    say(&lease.info().id);
    let (_, outcome) = repeat_until_let_go(|_| memory.read_file(0, memory.len(), &disk, 0));
    let error = outcome.expect_err("the disk went on");
    // An error of the read under way, or the end of a disk that has no bytes any more.
    assert!(matches!(error, DirectIoError::Io(_) | DirectIoError::Ended { .. }), "{error:?}");
    say(&in_words(&error));
    until_let_go();
}

/// The lines of the daemon's memory map that are of this drive.
fn mapped_by(daemon: &Daemon, drive: &Drive) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", daemon.pid())).unwrap();
    let of_drive = |line: &&str| line.contains(&format!("{}/p2pmem", drive.address));
    maps.lines().filter(of_drive).map(str::to_owned).collect()
}

fn has_gone(events: &mut Events, name: &RegionName) {
    events.find(&format!("{name} has gone"), |event| match event {
        Event::RegionGone { name: gone } if gone == *name => Some(()),
        _ => None,
    });
}

fn comes_back(events: &mut Events, name: &RegionName) -> Region {
    events.find(&format!("{name} is back"), |event| match event {
        Event::RegionAdded { region } if region.name == *name => Some(region),
        _ => None,
    })
}

/// Unplugs drive B under everybody's hands, and plugs it in again.
fn unplug_under_load(daemon: &Daemon) {
    let [a, b] = ["a", "b"].map(Drive::named);
    let client = daemon.client();
    let mut events = Events::of(&client);
    let generation = daemon.pool(&b).generation;
    let pair = Pair::start(["role_of_a_target", "role_of_a_mover"], [b.region(), a.region()]);
    let reader = Role::start("role_of_a_disk_reader", None);
    let of_reader: LeaseId = reader.hear();
    // Granted, and not mapped.
    let idle = client.map(&request(b.region(), SIZE, &[rxe()])).unwrap();

    let began = Instant::now();
    let unplugged = Unplugged::new(b.clone());
    let removed = began.elapsed();
    let failed = pair.fails();
    let transfer = began.elapsed();
    let disk: String = reader.hear();
    println!(
        "removed in {removed:?}; the transfer failed after {transfer:?} ({}); the disk after {:?} ({disk})",
        failed.words,
        began.elapsed()
    );
    assert!(failed.status.is_some(), "{}", failed.words);
    let [of_target, of_mover] = pair.leases;
    for lease in [of_target, idle.info().id] {
        assert_eq!(events.end_of(lease), LeaseEnd::RegionGone);
    }
    has_gone(&mut events, &b.region());
    let left: Vec<_> = client.leases().unwrap().iter().map(|lease| lease.id).collect();
    assert!(left.contains(&of_mover) && left.contains(&of_reader) && left.len() == 2, "{left:?}");
    assert_eq!(client.status().unwrap().regions, 2);
    assert_eq!(mapped_by(daemon, &b), [""; 0]);
    reader.let_go();
    pair.end();
    drop(idle);

    drop(unplugged);
    let back = comes_back(&mut events, &b.region());
    assert!(back.generation > generation, "{back:?}");
    let lease = client.map(&request(b.region(), back.size, &[rxe(), a.initiator()])).unwrap();
    let memory = lease.mapping().unwrap();
    assert!(memory.all().iter().all(|byte| *byte == 0));
    drop(memory);
    lease.unmap().unwrap();
    daemon.waits_for_all_of(&a);
    daemon.waits_for_all_of(&b);
}

#[test]
fn a_drive_that_is_unplugged_under_load_is_missed_in_words_and_comes_back() {
    let (journal, daemon) = (Journal::begin(), Daemon::start());
    let pid = daemon.pid();
    unplug_under_load(&daemon);
    // Files only: connections, and the processes behind them, come and go.
    let files = || {
        let mut all = daemon.descriptors();
        all.retain(|target| target.is_absolute());
        all.sort();
        all
    };
    let before = files();
    for _ in 0..2 {
        unplug_under_load(&daemon);
    }
    assert_eq!(daemon.pid(), pid, "the daemon never ended");
    // While it looks at devices, it has some of theirs open.
    until_seen(&format!("no file stays open but {before:?}"), files, |open| {
        open.iter().all(|file| before.contains(file))
    });
    let entries = journal.entries();
    assert!(!entries.is_empty(), "the daemon's start at least");
    for entry in entries {
        let priority: u8 = entry["PRIORITY"].as_str().unwrap().parse().unwrap();
        assert!(priority > 3, "{entry}");
    }
}
