//! systemd's file-descriptor store, with this test as systemd.
#![allow(clippy::unwrap_used)]

#[path = "support/role.rs"]
mod role;

use std::{
    fs::{self, File},
    io::{IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
};

use peermemd::fd_store::{FdStore, Passed};
use role::{place_of_role, play, role};
use rustix::{
    io::{FdFlags, fcntl_getfd},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

/// The next message to systemd, and the descriptors that came with it.
fn heard(systemd: &UnixDatagram) -> (String, Vec<OwnedFd>) {
    let mut bytes = [0; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message =
        recvmsg(systemd, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    (String::from_utf8(bytes[..message.bytes].to_vec()).unwrap(), fds)
}

fn content(fd: &OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd.try_clone().unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// An environment as systemd's, before the role begins.
fn environment(folder: &Path, names: &[&str]) -> String {
    let mut shell =
        format!("export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}", names.len(), names.join(":"));
    for (number, name) in (3..).zip(names) {
        fs::write(folder.join(name), format!("content of {name}")).unwrap();
        shell += &format!("; exec {number}<'{}'", folder.join(name).display());
    }
    shell
}

#[test]
fn what_is_put_reaches_systemd_with_its_descriptor() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("memory"), "memory").unwrap();
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).unwrap();
    let mut daemon = role("role_of_a_daemon_that_stores", folder.path(), ":");
    play(daemon.env("NOTIFY_SOCKET", &socket).env("FDSTORE", "128"));
    let (message, fds) = heard(&systemd);
    assert_eq!(message, "FDSTORE=1\nFDNAME=region-7\nFDPOLL=0\n");
    let [fd] = &fds[..] else { panic!("{fds:?}") };
    assert_eq!(content(fd), "memory");
    let (message, fds) = heard(&systemd);
    assert_eq!(message, "FDSTOREREMOVE=1\nFDNAME=region-7\n");
    assert!(fds.is_empty());
}

#[test]
#[ignore = "the daemon in another test"]
fn role_of_a_daemon_that_stores() {
    let (store, passed) = FdStore::from_environment().unwrap();
    assert!(store.is_available() && passed.stored.is_empty());
    assert_eq!(store.capacity(), Some(128));
    let name = "region-7".parse().unwrap();
    let memory = File::open(place_of_role().join("memory")).unwrap();
    store.put(&name, memory.as_fd()).unwrap();
    store.remove(&name).unwrap();
}

#[test]
fn what_was_stored_comes_back_by_name_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let before = environment(folder.path(), &["region-7", "peermemd.socket", "region-8"]);
    play(&mut role("role_of_a_daemon_that_comes_back", folder.path(), &before));
}

#[test]
#[ignore = "the daemon in another test"]
fn role_of_a_daemon_that_comes_back() {
    let (_store, Passed { stored, sockets }) = FdStore::from_environment().unwrap();
    let stored: Vec<_> = stored.iter().map(|(name, fd)| (name.as_str(), fd)).collect();
    let sockets: Vec<_> = sockets.iter().map(|(name, fd)| (name.as_str(), fd)).collect();
    assert_eq!(stored.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["region-7", "region-8"]);
    assert_eq!(sockets.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["peermemd.socket"]);
    for (name, fd) in stored.iter().chain(&sockets) {
        assert_eq!(content(fd), format!("content of {name}"));
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
    // A second owner of the same descriptors would close them under the first one's feet.
    assert!(FdStore::from_environment().unwrap_err().to_string().starts_with("descriptor 3, \"region-7\": "));
}

#[test]
fn without_systemd_nothing_is_stored_and_the_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let before = "unset NOTIFY_SOCKET LISTEN_PID LISTEN_FDS LISTEN_FDNAMES FDSTORE";
    play(&mut role("role_of_a_daemon_without_systemd", folder.path(), before));
}

#[test]
#[ignore = "the daemon in another test"]
fn role_of_a_daemon_without_systemd() {
    let (store, passed) = FdStore::from_environment().unwrap();
    assert!(!store.is_available() && store.capacity().is_none());
    assert!(passed.stored.is_empty() && passed.sockets.is_empty());
    let name = "region-7".parse().unwrap();
    store.put(&name, File::open("/dev/null").unwrap().as_fd()).unwrap();
    store.remove(&name).unwrap();
}

#[test]
fn descriptors_that_are_not_there_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let before = environment(folder.path(), &["region-7"]) + "; exec 3<&-";
    play(&mut role("role_of_a_daemon_that_was_lied_to", folder.path(), &before));
}

#[test]
#[ignore = "the daemon in another test"]
fn role_of_a_daemon_that_was_lied_to() {
    // Whatever has that number meanwhile, it isn't systemd's.
    let error = FdStore::from_environment().unwrap_err().to_string();
    assert!(error.starts_with("descriptor 3, \"region-7\": "), "{error}");
}
