//! Every *no* that a command can meet: exit code, stable code, and words that help.
#![allow(clippy::unwrap_used)]

mod support;

use std::os::{fd::AsFd, unix::net::UnixListener};

use peermem::{CallFailed, Client, proto::Sharing};
use support::{Daemon, failure};

#[test]
fn refused_mappings() {
    let daemon = Daemon::start();
    for (arguments, code, words) in [
        (&["nowhere", "--size", "4KiB"][..], "UnknownRegion", "`peermemctl regions` lists them"),
        (&["emulated", "--size", "0"], "ZeroLength", "at least 4KiB"),
        (&["emulated", "--size", "4097"], "NotAligned", "multiple of 4KiB"),
        (&["emulated", "--size", "2MiB"], "NotEnoughSpace", "1MiB are free"),
        (&["emulated", "--size", "16777215TiB"], "NotEnoughSpace", "1MiB are free"),
        (&["emulated"], "BadExtent", "give a length"),
        (&["emulated", "--size", "4KiB", "--offset", "4KiB"], "BadExtent", "no offset"),
    ] {
        let arguments = [&["map", "--initiator", "emulated"], arguments].concat();
        let (exit, found, message) = failure(&daemon.ctl(&arguments));
        assert_eq!((exit, found), (1, format!("io.peermem.Broker.{code}")), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    let absent = ["map", "emulated", "--size", "4KiB", "--initiator", "rdma:absent0"];
    let (exit, code, message) = failure(&daemon.ctl(&absent));
    assert_eq!((exit, code.as_str()), (1, "io.peermem.Broker.UnknownInitiator"), "{message}");
}

#[test]
fn words_for_people_go_to_standard_error() {
    let daemon = Daemon::start();
    let output =
        support::ctl(&daemon.socket).args(["map", "nowhere", "--initiator", "emulated"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("peermemctl: can't map nowhere: no region is named nowhere"), "{text}");
}

#[test]
fn memory_of_this_process_is_no_device_memory() {
    let daemon = Daemon::start();
    let client = Client::connect_to(&daemon.socket).unwrap();
    let ram = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = tempfile::tempfile().unwrap();
    for (fd, expected) in [(ram.as_fd(), "NotDeviceMemory"), (file.as_fd(), "NotDmabuf")] {
        let (name, device) = ("mine".parse().unwrap(), any_device());
        match client.register(name, device, fd, Sharing::Owner) {
            Err(CallFailed::Answered(refusal)) => {
                assert_eq!(refusal.code(), format!("io.peermem.Broker.{expected}"), "{refusal}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A PCI function of this machine, since the daemon looks for it; any will do where there is none to be found.
fn any_device() -> peermem::proto::PciAddress {
    let devices = std::fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    let mut names = devices.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    names.next().unwrap_or_else(|| "0000:00:00.0".parse().unwrap())
}

#[test]
fn usage() {
    for arguments in [
        &[][..],
        &["map"],
        &["map", "no/name"],
        &["map", "emulated", "--size", "4KB"],
        &["map", "emulated", "--offset", "0"],
        &["map", "emulated", "--initiator", "mlx5_0"],
        &["verify", "--region", "emulated"],
        &["verify", "--region", "emulated", "--listen", "a:1", "--connect", "b:1"],
        &["bench"],
        &["bench", "write", "--sizes", "4K..4M"],
        &["bench", "write", "--sizes", "8KiB..4KiB"],
        &["bench", "write", "--depth", "0"],
        &["bench", "write", "--from", "a", "--connect", "b:1", "--bounce"],
        &["completions", "noshell"],
        &["map", "emulated", "--delegate", "--for", "1"],
        &["claim", "no-token"],
        &["revoke"],
        &["revoke", "first"],
        &["explain", "--region", "emulated"],
        &["explain", "--user", "root", "--action", "steal", "--region", "emulated"],
    ] {
        let output = support::ctl("/nonexistent".as_ref()).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_benchmark_without_two_ends_or_an_rdma_device() {
    let daemon = Daemon::start();
    let both = ["--from", "emulated", "--to", "emulated"];
    for (arguments, words) in [
        (&["write", "--from", "emulated"][..], "by --from and --to"),
        (
            &["read", "--to", "emulated", "--from", "emulated", "--connect", "127.0.0.1:1"],
            "this end's region is --to",
        ),
        (&[&["write", "--initiator", "emulated"][..], &both].concat(), "name it by --initiator rdma:NAME"),
    ] {
        let (exit, code, message) = failure(&daemon.ctl(&[&["bench"], arguments].concat()));
        assert_eq!((exit, code.as_str()), (2, "usage"), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {message}");
    }
    let (exit, _, message) =
        failure(&daemon.ctl(&["bench", "write", "--from", "nowhere", "--to", "emulated"]));
    assert!(exit == 1 && message.contains("`peermemctl regions` lists them"), "{message}");
}

#[test]
fn a_daemon_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let status = || support::ctl(&socket).args(["--json", "status"]).output().unwrap();

    let (exit, code, message) = failure(&status());
    assert_eq!((exit, code.as_str()), (3, "unreachable"));
    assert!(message.contains("peermemd --emulate 64MiB"), "{message}");

    drop(UnixListener::bind(&socket).unwrap());
    let (exit, _, message) = failure(&status());
    assert_eq!(exit, 3);
    assert!(message.contains("nobody listens"), "{message}");
}

#[test]
fn a_daemon_that_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    // Each time: a client greets the one that comes next.
    let hanging_up = std::thread::spawn(move || (0..3).for_each(|_| drop(listener.accept().unwrap())));
    let (exit, code, message) = failure(&support::ctl(&socket).args(["--json", "status"]).output().unwrap());
    assert_eq!((exit, code.as_str()), (3, "unreachable"), "{message}");
    assert!(message.contains("peermemd closed it"), "{message}");
    hanging_up.join().unwrap();
}
