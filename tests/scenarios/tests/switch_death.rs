//! Clients that die: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
};

use peermem_proto::{ByteLen, Event, Lease, LeaseEnd, Sharing};
use peermem_scenarios::{
    daemon::Daemon,
    drive::Drive,
    events::Events,
    leased::{request, request_whole, rxe},
    peers::CpuAccess,
    role::{Role, say, until_let_go},
    vram,
    wait::until_seen,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

const SIZE: ByteLen = ByteLen::new(4 << 20);

/// Copies of all sockets of a process, as its child would have inherited them.
fn sockets_of(pid: u32) -> Vec<OwnedFd> {
    let process = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    let pidfd = pidfd_open(process, PidfdFlags::empty()).unwrap();
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().map(|fd| fd.unwrap().path());
    let sockets = fds.filter(|fd| fs::read_link(fd).unwrap().to_string_lossy().starts_with("socket:"));
    sockets
        .map(|fd| {
            let number = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
            pidfd_getfd(pidfd.as_fd(), number, PidfdGetfdFlags::empty()).unwrap()
        })
        .collect()
}

#[test]
fn a_killed_client_loses_everything_even_if_another_process_keeps_its_socket() {
    let daemon = Daemon::start();
    let drive = Drive::named("b");
    let client = daemon.client();
    let mut events = Events::of(&client);
    let (all, gpu, descriptors) =
        (daemon.pool(&drive).free, vram::info(), daemon.descriptors_at_rest().len());

    let role = Role::start("role_of_one_who_dies", None);
    let [pool, window]: [Lease; 2] = role.hear();
    let in_its_region = client.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    assert_eq!(daemon.pool(&drive).free, all.saturating_sub(SIZE));
    let kept = sockets_of(role.pid());
    assert_eq!(kept.len(), 1, "one connection to the daemon");
    let status = role.kill();
    assert!(!status.success());

    assert_eq!(events.end_of(pool.id), LeaseEnd::OwnerGone);
    assert_eq!(events.end_of(window.id), LeaseEnd::OwnerGone);
    assert_eq!(events.end_of(in_its_region.info().id), LeaseEnd::RegionGone);
    events.find("the region has gone", |event| {
        matches!(event, Event::RegionGone { name } if name == vram::name()).then_some(())
    });
    // What the daemon closed is closed for whoever holds a copy.
    for socket in kept {
        let mut socket = UnixStream::from(socket);
        socket.set_nonblocking(false).unwrap();
        assert_eq!(socket.read(&mut [0; 64]).unwrap(), 0);
    }
    drop(in_its_region);
    until_seen(
        &format!("everything is free again, as {gpu:?}, with at most {descriptors} descriptors"),
        || (vram::info(), daemon.descriptors().len()),
        |(now, open)| *now == gpu && *open <= descriptors,
    );
    daemon.waits_for_all_of(&drive);
    let status = client.status().unwrap();
    assert_eq!((status.leases, status.leased_bytes, status.regions), (0, 0, 3));
}

#[test]
#[ignore = "the client in another scenario"]
fn role_of_one_who_dies() {
    let client = peermem::Client::connect().unwrap();
    let pool = client.map(&request(Drive::named("b").region(), SIZE, &[rxe()])).unwrap();
    let memory = pool.mapping().unwrap();
    memory.put(0, &vec![0x5a; memory.len()]);
    let _region = vram::register(&client, vram::allocate(SIZE), Sharing::Everyone).unwrap();
    let window = client.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    say(&[&*pool.info(), &*window.info()]);
    until_let_go();
}

#[test]
fn a_client_that_ends_by_itself_gives_back_what_it_had() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let mut events = Events::of(&client);
    let role = Role::start("role_of_one_who_dies", None);
    let [pool, window]: [Lease; 2] = role.hear();
    role.let_go();
    assert_eq!(events.end_of(window.id), LeaseEnd::Unmapped);
    assert_eq!(events.end_of(pool.id), LeaseEnd::Unmapped);
    assert!(client.leases().unwrap().is_empty());
}
