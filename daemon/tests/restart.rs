//! A daemon that ends, in whatever way, and is there again: nobody loses anything.
#![allow(clippy::unwrap_used)]

#[path = "support/caller.rs"]
mod caller;
mod support;

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    time::{Duration, Instant},
};

use caller::{Caller, call};
use serde_json::{Value, json};
use support::{Client, Daemon, code, eventually};

/// Comes back to a daemon: what is lost of these leases.
fn resume(daemon: &Daemon, instance: &str, leases: &[u64]) -> (Client, Vec<u64>) {
    let mut client = daemon.connect();
    let mut lost = Vec::new();
    for leases in leases.chunks(500) {
        let reply = client.call("Resume", json!({ "instance": instance, "leases": leases }));
        let these = reply["parameters"]["lost_leases"].as_array().unwrap_or_else(|| panic!("{reply}"));
        lost.extend(these.iter().map(|id| id.as_u64().unwrap()));
    }
    (client, lost)
}

fn instance(client: &mut Client) -> String {
    client.call("Hello", json!({ "protocol": 1 }))["parameters"]["instance"].as_str().unwrap().to_owned()
}

/// Every lease that the daemon lists.
fn leases(client: &mut Client) -> Vec<Value> {
    let mut leases: Vec<Value> = Vec::new();
    loop {
        let after = leases.last().map(|lease| lease["id"].clone());
        let page = client.call("ListLeases", json!({ "after": after }));
        leases.extend(page["parameters"]["leases"].as_array().unwrap().iter().cloned());
        if page["parameters"]["more"] == false {
            return leases;
        }
    }
}

fn ids(leases: &[Value]) -> Vec<u64> {
    leases.iter().map(|lease| lease["id"].as_u64().unwrap()).collect()
}

const LARGE: &str = "[[emulated]]\nname = \"large\"\nsize = \"64MiB\"\n";

fn map_large(client: &mut Client) -> u64 {
    let request = json!({ "region": "large", "length": 4096, "initiators": ["emulated"], "direction": "bidirectional" });
    let (reply, _memory) = client.call_with("Map", request, Vec::new());
    reply["parameters"]["lease"]["id"].as_u64().unwrap_or_else(|| panic!("{reply}"))
}

#[test]
fn a_thousand_leases_outlive_a_stop_and_a_kill() {
    let mut daemon = Daemon::with_config(LARGE);
    let mut client = daemon.connect();
    let instance = instance(&mut client);
    let mut held: Vec<u64> = (0..1000).map(|_| map_large(&mut client)).collect();
    for signal in ["TERM", "KILL", "KILL"] {
        daemon.signal(signal);
        daemon.wait();
        assert!(client.receive().is_none());
        daemon = Daemon::in_folder(daemon.into_folder(), LARGE);
        let waiting = leases(&mut daemon.connect());
        assert_eq!(ids(&waiting), held, "after SIG{signal}");
        assert!(waiting.iter().all(|lease| lease["waiting"] == true));
        let lost;
        (client, lost) = resume(&daemon, &instance, &held);
        assert!(lost.is_empty(), "after SIG{signal}: {lost:?}");
        let now = leases(&mut client);
        assert_eq!(ids(&now), held);
        assert!(now.iter().all(|lease| lease["waiting"].is_null()));
        // Life goes on in between, with numbers that nobody had.
        let next = map_large(&mut client);
        assert!(next > *held.last().unwrap());
        client.call("Unmap", json!({ "lease": held.remove(0) }));
        held.push(next);
    }
    drop(client);
    let mut other = daemon.connect();
    eventually("all has been given back", || leases(&mut other).is_empty());
}

#[test]
fn who_is_killed_in_the_middle_of_its_work_has_lost_nothing_that_it_granted() {
    let mut daemon = Daemon::with_config(LARGE);
    let mut instance_of_first = None;
    let mut granted = Vec::new();
    for round in 0..5 {
        let mut client = daemon.connect();
        let instance = instance_of_first.get_or_insert_with(|| instance(&mut client)).clone();
        let (mut client, lost) = {
            drop(client);
            resume(&daemon, &instance, &granted)
        };
        assert!(lost.is_empty(), "round {round}: {lost:?} of {granted:?}");
        let pid = daemon.pid().to_string();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + 13 * round));
            std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        });
        let request = json!({ "method": "io.peermem.Broker.Map", "parameters":
            { "region": "large", "length": 4096, "initiators": ["emulated"], "direction": "read" } });
        // One call at a time, for as long as there is an answer.
        loop {
            if !client.try_send(request.to_string().as_bytes()) {
                break;
            }
            let Some((reply, _)) = client.receive() else { break };
            match reply["parameters"]["lease"]["id"].as_u64() {
                Some(id) => granted.push(id),
                None => break,
            }
        }
        killer.join().unwrap();
        daemon.wait();
        daemon = Daemon::in_folder(daemon.into_folder(), LARGE);
    }
    let (_client, lost) = resume(&daemon, &instance_of_first.unwrap(), &granted);
    assert!(lost.is_empty(), "after the last round: {lost:?} of {granted:?}");
    assert!(granted.len() > 10, "it was too slow to show anything: {}", granted.len());
}

#[test]
#[ignore = "another process in other tests"]
fn role_of_a_caller() {
    caller::play();
}

#[test]
fn another_process_can_not_resume_and_the_dead_are_not_waited_for() {
    let mut daemon = Daemon::start();
    let mut other = Caller::start(None, &daemon.socket(), &[call("Map", &support::map_request(4096))]);
    let mut client = daemon.connect();
    let instance = instance(&mut client);
    let theirs = ids(&leases(&mut client));
    let (mine, _memory) = client.map(4096);
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::in_folder(daemon.into_folder(), "");
    let (mut client, lost) = resume(&daemon, &instance, &[theirs[0], mine]);
    assert_eq!(lost, theirs, "somebody else's lease was taken over");
    assert_eq!(leases(&mut client).len(), 2);
    other.kill();
    eventually("its lease ends with it", || ids(&leases(&mut client)) == [mine]);
    eventually("the log says why", || daemon.log().contains("its owner has gone"));
}

#[test]
fn who_does_not_come_back_loses_its_leases_after_the_grace() {
    let config = "[leases]\nresume_grace_secs = 5\n";
    let mut daemon = Daemon::with_config(config);
    let mut client = daemon.connect();
    let instance = instance(&mut client);
    let (lease, _memory) = client.map(4096);
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::in_folder(daemon.into_folder(), config);
    let mut watcher = daemon.connect();
    assert_eq!(ids(&leases(&mut watcher)), [lease]);
    eventually("the grace ends", || leases(&mut watcher).is_empty());
    eventually("the log says why", || daemon.log().contains("didn't come back after a restart"));
    assert_eq!(resume(&daemon, &instance, &[lease]).1, [lease]);
    assert_eq!(watcher.free(), 1 << 20);
}

fn journal_of(daemon: &Daemon) -> std::path::PathBuf {
    daemon.socket().with_file_name("leases.journal")
}

#[test]
fn a_journal_that_is_torn_corrupt_or_from_tomorrow_keeps_nobody_from_starting() {
    type Damage = fn(&Path);
    let torn: Damage = |path| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().size() - 5).unwrap();
    };
    let corrupt: Damage = |path| {
        File::options().write(true).open(path).unwrap().write_all_at(b"rubbish", 200).unwrap();
    };
    let newer: Damage = |path| {
        let text = fs::read_to_string(path).unwrap();
        let (first, rest) = text.split_once('\n').unwrap();
        let header = first.split_once(' ').unwrap().1.replace("journal\":1", "journal\":99");
        let line = format!("{:08x} {header}", crc32fast::hash(header.as_bytes()));
        fs::write(path, format!("{line}\n{rest}")).unwrap();
    };
    for (name, damage, kept, says) in [
        ("torn", torn, 1, "is torn"),
        ("corrupt", corrupt, 0, "can't be used"),
        ("newer", newer, 0, "can't be used"),
    ] {
        let mut daemon = Daemon::start();
        let mut client = daemon.connect();
        let instance = instance(&mut client);
        let granted = [client.map(4096).0, client.map(8192).0];
        daemon.signal("KILL");
        daemon.wait();
        damage(&journal_of(&daemon));
        let daemon = Daemon::in_folder(daemon.into_folder(), "");
        assert!(daemon.log().contains(says), "{name}: {}", daemon.log());
        let (mut client, lost) = resume(&daemon, &instance, &granted);
        assert_eq!(granted.len() - lost.len(), kept, "{name}");
        let beside = fs::read_dir(journal_of(&daemon).parent().unwrap()).unwrap();
        let names: Vec<_> = beside.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(names.iter().any(|file| file.contains("-1")), "{name}: nothing is set aside: {names:?}");
        client.map(4096);
    }
}

#[test]
fn what_can_not_be_written_down_is_not_granted() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let (lease, _memory) = client.map(4096);
    for _ in 0..50 {
        let (lease, _memory) = client.map(4096);
        client.call("Unmap", json!({ "lease": lease }));
    }
    // The journal is longer than the memory that is asked for next, and can't grow any more.
    let size = fs::metadata(journal_of(&daemon)).unwrap().size();
    let limit = format!("--fsize={size}");
    let limited =
        std::process::Command::new("prlimit").args(["--pid", &daemon.pid().to_string(), &limit]).status();
    assert!(limited.unwrap().success());
    let reply = client.call("Map", support::map_request(4096));
    assert_eq!(code(&reply), "NotRecorded", "{reply}");
    assert!(reply["parameters"]["message"].as_str().unwrap().contains("journal"), "{reply}");
    assert_eq!(ids(&leases(&mut client)), [lease]);
    assert_eq!(client.free(), (1 << 20) - 4096);
    client.assert_alive();
    daemon.signal("KILL");
    daemon.wait();
}

#[test]
fn an_end_that_could_not_be_written_down_does_not_come_back() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let (ended, _memory) = client.map(1 << 20);
    let limit = |bytes: &str| {
        let (pid, limit) = (daemon.pid().to_string(), format!("--fsize={bytes}:"));
        let limited = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
        assert!(limited.unwrap().success());
    };
    // Too little even for a journal that is written afresh.
    limit("1");
    let reply = client.call("Unmap", json!({ "lease": ended }));
    assert_eq!(code(&reply), "no error", "what ends may end all the same: {reply}");
    limit("unlimited");
    // The same bytes, for another lease.
    let (lease, _memory) = client.map(1 << 20);
    eventually("the journal catches up", || {
        // Something must happen, and nothing that is recorded: a journal grows old by itself.
        daemon.connect().assert_alive();
        daemon.metric("peermem_journal_rewrites_total") > Some(0.0)
    });
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::in_folder(daemon.into_folder(), "");
    assert_eq!(ids(&leases(&mut daemon.connect())), [lease]);
}

#[test]
fn a_lease_goes_on_in_its_clients_hands_while_there_is_no_daemon() {
    let mut daemon = Daemon::start();
    let mut client = daemon.connect();
    let (lease, memory) = client.map(4096);
    let memory = File::from(memory);
    memory.write_all_at(b"before", 0).unwrap();
    daemon.signal("KILL");
    daemon.wait();
    memory.write_all_at(b"while", 6).unwrap();
    let daemon = Daemon::in_folder(daemon.into_folder(), "");
    assert_eq!(ids(&leases(&mut daemon.connect())), [lease]);
    let mut bytes = [0; 11];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"beforewhile");
}

#[test]
fn a_start_with_a_thousand_leases_takes_no_time() {
    let mut daemon = Daemon::with_config(LARGE);
    let mut client = daemon.connect();
    for _ in 0..1000 {
        map_large(&mut client);
    }
    daemon.signal("KILL");
    daemon.wait();
    let began = Instant::now();
    let daemon = Daemon::in_folder(daemon.into_folder(), LARGE);
    let took = began.elapsed();
    // Far more than it takes, even unoptimised and beside other tests.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(leases(&mut daemon.connect()).len(), 1000);
}
