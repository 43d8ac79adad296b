//! Drives' Controller Memory Buffers (CMB) through leases: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs::File, io::ErrorKind, sync::Arc};

use peermem::{CallFailed, Client, DirectIoError, Mapping, proto::varlink::CallError, rdma::pattern};
use peermem_proto::{
    ByteLen, Direction, Extent, Fault, Initiator, Lease, Refusal, RegionName, Route,
    call::{MOST_INITIATORS, Map},
};
use peermem_scenarios::{
    cmb,
    command::{fail, json, peermemctl},
    daemon::{Daemon, SOCKET, refusal},
    drive::Drive,
    leased::{request, rxe},
    peers::CpuAccess,
    role::{Role, say, until_let_go},
    user::User,
};

const MIB: ByteLen = ByteLen::new(1 << 20);
const PAGE: usize = 4096;

fn assert_same(found: &[u8], expected: &[u8]) {
    if let Some((first, wrong)) = pattern::difference(found, expected) {
        panic!("{wrong} bytes of {} are wrong, from {first:#x} on", expected.len());
    }
}

#[test]
fn two_leases_share_no_byte() {
    let daemon = Daemon::start();
    let drive = Drive::named("a");
    let all = daemon.pool(&drive).free;
    let clients = [daemon.client(), daemon.client()];
    let leases =
        clients.each_ref().map(|client| client.map(&request(drive.region(), MIB, &[rxe()])).unwrap());
    let mappings = leases.each_ref().map(|lease| lease.mapping().unwrap());
    assert_eq!(daemon.pool(&drive).free.get(), all.get() - 2 * MIB.get());
    assert_eq!(drive.available(), 0, "nothing is there but what was leased");
    for (seed, mapping) in (1..).zip(&mappings) {
        mapping.put(0, &pattern::bytes(seed, mapping.len()));
    }
    for (seed, mapping) in (1..).zip(&mappings) {
        assert_same(&mapping.all(), &pattern::bytes(seed, mapping.len()));
    }
    drop(mappings);
    for lease in leases {
        lease.unmap().unwrap();
    }
    daemon.waits_for_all_of(&drive);
}

/// What a disk's DMA must have left in memory that held something else before.
fn read_and_compare(drive: &Drive, memory: &Mapping, at: u64, offset: usize, length: usize) {
    let seed = at ^ (offset as u64) << 32 ^ (length as u64) << 8;
    let written = pattern::bytes(seed, length);
    let mut expected = pattern::bytes(!seed, memory.len());
    drive.write(at, &written);
    memory.put(0, &expected);
    memory.read_file(offset, length, drive.direct(), at).unwrap();
    expected[offset..offset + length].copy_from_slice(&written);
    assert_same(&memory.all(), &expected);
}

#[test]
fn one_drive_reads_straight_into_the_lease_of_another() {
    let daemon = Daemon::start();
    let [a, b] = ["a", "b"].map(Drive::named);
    let lease =
        daemon.client().map(&request(b.region(), ByteLen::new(4 << 20), &[a.initiator(), rxe()])).unwrap();
    let info = lease.info();
    let [from_a, from_rxe] = &info.paths[..] else { panic!("{info:?}") };
    assert_eq!(
        (&from_a.initiator, &from_a.route),
        (&a.initiator(), &Route::BusAddress { acs_checked: true })
    );
    assert_eq!((&from_rxe.initiator, &from_rxe.route), (&rxe(), &Route::Software {}));
    let memory = lease.mapping().unwrap();
    for (at, offset, length) in [
        (0, 0, 512),
        (512, PAGE, 512),
        (1 << 20, 3 * PAGE + 512, PAGE + 1024),
        (4096, PAGE, 65536),
        (2 << 20, 0, 4 << 20),
    ] {
        read_and_compare(&a, &memory, at, offset, length);
    }
}

#[test]
fn one_drive_writes_straight_from_the_lease_of_another() {
    let daemon = Daemon::start();
    let [a, b] = ["a", "b"].map(Drive::named);
    let lease = daemon.client().map(&request(b.region(), MIB, &[a.initiator()])).unwrap();
    let memory = lease.mapping().unwrap();
    let source = pattern::bytes(11, memory.len());
    memory.put(0, &source);
    for (at, offset, length) in [(0, 0, 512), (8192, PAGE, 3 * PAGE), (1 << 20, 512, (1 << 20) - 512)] {
        let around = 4096;
        let before = pattern::bytes(!at, length + 2 * around);
        a.write(at, &before);
        memory.write_file(offset, length, a.direct(), at + around as u64).unwrap();
        let found = a.read(at, before.len());
        assert_same(&found[around..around + length], &source[offset..offset + length]);
        assert_same(&found[..around], &before[..around]);
        assert_same(&found[around + length..], &before[around + length..]);
    }
}

#[test]
fn a_drive_below_another_port_is_refused_and_the_host_bridge_named() {
    let daemon = Daemon::start();
    let [a, b, c] = ["a", "b", "c"].map(Drive::named);
    let client = daemon.client();
    for (provider, initiators, culprit) in [(&b, vec![&c], &c), (&c, vec![&a], &a), (&b, vec![&a, &c], &c)] {
        let initiators: Vec<_> = initiators.into_iter().map(Drive::initiator).collect();
        let Refusal::NoRoute { region, initiator, why } =
            refusal(client.map(&request(provider.region(), MIB, &initiators)))
        else {
            panic!("refused for another reason");
        };
        assert_eq!((region, initiator), (provider.region(), culprit.initiator()));
        for part in ["host bridge 8086:29c0", "root bus 0000:00", "below one PCIe switch"] {
            assert!(why.contains(part), "{why} doesn't say {part}");
        }
    }
    // The kernel says no in fewer words.
    let lease = client.map(&request(b.region(), MIB, &[rxe()])).unwrap();
    let error = lease.mapping().unwrap().read_file(0, PAGE, c.direct(), 0).unwrap_err();
    assert!(matches!(error, DirectIoError::Refused(_)), "{error:?}");
}

#[test]
fn what_can_not_be_granted_is_refused_by_its_own_code() {
    let daemon = Daemon::start();
    let drive = Drive::named("a");
    let client = daemon.client();
    let free = client.regions().unwrap()[0].free;
    let ask = |extent, initiators: &[&str]| {
        let initiators: Vec<Initiator> = initiators.iter().map(|text| text.parse().unwrap()).collect();
        refusal(client.map(&Map::new(drive.region(), extent, initiators, Direction::Bidirectional)))
    };
    let sized = |bytes| ask(Extent::Size(ByteLen::new(bytes)), &["rdma:rxe0"]);
    assert!(matches!(sized(0), Refusal::ZeroLength { .. }));
    assert!(matches!(sized(4097), Refusal::NotAligned { field, .. } if field == "length"));
    let too_much = free.get() + 4096;
    assert!(matches!(sized(too_much), Refusal::NotEnoughSpace { requested, free: left, .. }
        if requested.get() == too_much && left == free));
    assert!(matches!(ask(Extent::Whole, &["rdma:rxe0"]), Refusal::BadExtent { .. }));
    let size = Extent::Size(MIB);
    for absent in ["rdma:mlx5_7", "pci:0000:7f:00.0", "emulated"] {
        let refused = ask(size, &["rdma:rxe0", absent]);
        assert!(
            matches!(&refused, Refusal::UnknownInitiator { initiator } if initiator.to_string() == absent),
            "{refused}"
        );
    }
    for count in [0, MOST_INITIATORS + 1] {
        let refused = ask(size, &vec!["rdma:rxe0"; count]);
        assert!(matches!(refused, Refusal::InitiatorCount { got, .. } if got as usize == count), "{refused}");
    }
    let nowhere: RegionName = "p2pmem-0000:7f:00.0".parse().unwrap();
    let refused = refusal(client.map(&request(nowhere.clone(), MIB, &[rxe()])));
    assert_eq!(refused, Refusal::UnknownRegion { region: nowhere });
    assert_eq!(client.status().unwrap().leases, 0);
}

#[test]
fn where_the_daemon_holds_nothing_it_names_others_who_hold_memory_as_the_cause() {
    let daemon = Daemon::start_with(Some("[p2pmem]\nhold = \"none\"\n"));
    let drive = Drive::named("a");
    let index = cmb::allocators().iter().position(|path| *path == drive.allocator()).unwrap();
    let client = daemon.client();
    let outside = cmb::memory(index, ByteLen::new(drive.available() - MIB.get()));
    let error = client.map(&request(drive.region(), ByteLen::new(2 << 20), &[rxe()])).unwrap_err();
    let CallFailed::Answered(CallError::Fault(Fault::ProviderFailed { reason, .. })) = &error else {
        panic!("{error:?}");
    };
    assert!(reason.contains("1MiB left for 2MiB") && reason.contains("outside of the daemon"), "{reason}");
    // A lease for what is left, and the race that the daemon can't win: somebody takes it before the client maps.
    let lease = client.map(&request(drive.region(), MIB, &[rxe()])).unwrap();
    let rest = cmb::memory(index, MIB);
    let text = lease.mapping().unwrap_err().to_string();
    assert!(text.contains("fuser"), "{text}");
    drop((rest, outside));
    lease.mapping().unwrap();
}

#[test]
fn a_member_of_the_group_maps_what_it_could_not_open() {
    let daemon = Daemon::start();
    let member = User::add_member("member");
    let role = Role::start("role_of_a_member", Some(&member));
    let lease: Lease = role.hear();
    assert_eq!(lease.owner.uid, member.uid());
    assert_eq!(daemon.client().leases().unwrap(), [lease]);
    role.let_go();
}

#[test]
#[ignore = "the member in another scenario"]
fn role_of_a_member() {
    let drive = Drive::named("b");
    let error = File::options().read(true).write(true).open(drive.allocator()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "a member needs no daemon");
    let client = Client::connect().unwrap();
    let lease = client.map(&request(drive.region(), MIB, &[rxe()])).unwrap();
    let memory: Arc<Mapping> = lease.mapping().unwrap();
    let bytes = pattern::bytes(7, memory.len());
    memory.put(0, &bytes);
    assert_same(&memory.all(), &bytes);
    say(&*lease.info());
    until_let_go();
}

#[test]
fn a_stranger_is_told_which_group_to_join() {
    let _daemon = Daemon::start();
    let stranger = User::add("stranger");
    let said = fail(&mut stranger.command(&peermemctl("regions")), 3);
    let error = json(&said);
    assert_eq!(error["error"], "unreachable");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains(SOCKET) && message.contains("group `peermem`"), "{message}");
    let member = User::add_member("insider");
    let listed = member.command(&peermemctl("regions")).output().unwrap();
    assert!(listed.status.success(), "{listed:?}");
}
