//! RDMA between leased regions: profile `switch`, as root, one test at a time, with the preload library that gives
//! soft-RoCE dma-buf registration.
#![allow(clippy::unwrap_used)]

use std::{fs, mem};

use peermem::{
    RegisteredRegion, RegistrationError,
    rdma::{EndpointConfig, Operation, TransferError},
    verbs::{Access, Mtu, ProtectionDomain},
};
use peermem_proto::{ByteLen, Direction, Extent, Initiator, Method, Revocation, Sharing, call::Map};
use peermem_scenarios::{
    daemon::Daemon,
    drive::Drive,
    leased::{Leased, request, request_whole, rxe},
    link::LinkMtu,
    peers::{Peers, Side, device, in_words},
    vram,
    wait::until,
};

const PAGE: u64 = 4096;
/// The longest transfer and a page on either side of it.
const SIZE: ByteLen = ByteLen::new((4 << 20) + 2 * PAGE);
const BOTH: [Operation; 2] = [Operation::Write, Operation::Read];

/// A drive's buffer and the GPU's memory, leased, registered and connected.
struct Rig {
    peers: Peers,
    cmb: Leased,
    gpu: Leased,
    region: RegisteredRegion,
    daemon: Daemon,
}

impl Rig {
    fn new() -> Self {
        let daemon = Daemon::start();
        let peers = Peers::connect(&EndpointConfig::default());
        let (owner, client) = (daemon.client(), daemon.client());
        let region = vram::register(&owner, vram::allocate(SIZE), Sharing::Everyone).unwrap();
        let cmb = Leased::new(&client, &peers.pd, &request(Drive::named("b").region(), SIZE, &[rxe()]));
        let gpu = Leased::new(&client, &peers.pd, &request_whole(vram::name(), &[rxe()]));
        assert_eq!(cmb.side.region.method(), Method::OnDemand);
        assert_eq!(gpu.side.region.method(), Method::Dmabuf);
        Self { peers, cmb, gpu, region, daemon }
    }
}

#[test]
fn bytes_go_from_a_cmb_to_the_gpu_and_back_in_every_size() {
    let Rig { peers, cmb, gpu, .. } = &mut Rig::new();
    for length in [1, PAGE, PAGE + 1, 3 * PAGE, 65_536, 1 << 20, (1 << 20) + 123, 4 << 20] {
        for operation in BOTH {
            // Any address of the GPU's will do; the CMB's are page-aligned.
            peers.check(operation, (&cmb.side, PAGE), (&gpu.side, PAGE - 100), length).unwrap();
            peers.check(operation, (&gpu.side, 513), (&cmb.side, PAGE), length).unwrap();
        }
    }
}

#[test]
fn bytes_go_between_the_buffers_of_two_drives_in_every_size() {
    let daemon = Daemon::start();
    let mut peers = Peers::connect(&EndpointConfig::default());
    let client = daemon.client();
    // C is no peer of A's on PCI; a CPU's copies know no switch.
    let [a, c] = ["a", "c"]
        .map(|drive| Leased::new(&client, &peers.pd, &request(Drive::named(drive).region(), SIZE, &[rxe()])));
    for length in [PAGE, 65_536, 4 << 20] {
        for operation in BOTH {
            peers.check(operation, (&a.side, PAGE), (&c.side, 2 * PAGE), length - PAGE + 1).unwrap();
            peers.check(operation, (&c.side, 0), (&a.side, PAGE), length).unwrap();
        }
    }
}

#[test]
fn what_soft_roce_would_corrupt_is_refused_before_a_byte_moves() {
    let Rig { peers, cmb, gpu, .. } = &mut Rig::new();
    for operation in BOTH {
        for offset in [1, 512, PAGE + 8] {
            for (error, whose) in [
                (peers.check(operation, (&cmb.side, offset), (&gpu.side, 0), 65_536), "the local"),
                (peers.check(operation, (&gpu.side, 0), (&cmb.side, offset), 65_536), "the peer's"),
            ] {
                let error = error.unwrap_err();
                assert!(matches!(error, TransferError::Unaligned(_)), "{error:?}");
                let words = in_words(&error);
                assert!(words.contains(whose) && words.contains("page-aligned"), "{words}");
            }
        }
        // The connection is as good as before.
        peers.check(operation, (&cmb.side, PAGE), (&gpu.side, 1), 65_536).unwrap();
    }
}

#[test]
fn a_path_mtu_below_a_page_is_refused_for_on_demand_memory() {
    let _small = LinkMtu::set(1500);
    let Rig { peers, cmb, gpu, .. } = &mut Rig::new();
    assert_eq!(peers.near.path_mtu(), Mtu::Bytes1024);
    let host = Side::host(&peers.pd, SIZE, Method::Pinned);
    for operation in BOTH {
        for error in [
            peers.check(operation, (&cmb.side, 0), (&gpu.side, 0), PAGE),
            peers.check(operation, (&gpu.side, 0), (&cmb.side, 0), PAGE),
        ] {
            let words = in_words(&error.unwrap_err());
            assert!(words.contains("the path MTU is 1024") && words.contains("mtu 9000"), "{words}");
        }
        // The GPU's memory is pinned, and right at any MTU.
        peers.check(operation, (&gpu.side, 77), (&host, 4000), 100_001).unwrap();
    }
}

/// How often a process has left a CPU, of its own accord and otherwise.
fn switches(pid: u32) -> Vec<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().filter(|line| line.contains("ctxt_switches")).map(str::to_owned).collect()
}

#[test]
fn the_daemon_sleeps_while_bytes_move() {
    let Rig { peers, cmb, gpu, daemon, .. } = &mut Rig::new();
    let pid = daemon.pid();
    // Once or twice in its life it wakes up by itself: for the watchdog, for the end of a grace period.
    let undisturbed = (0..3).any(|_| {
        let mut before = switches(pid);
        until("the daemon is idle", || {
            let now = switches(pid);
            (mem::replace(&mut before, now.clone()) == now).then_some(())
        });
        assert_eq!(before.len(), 2, "{before:?}");
        for operation in BOTH {
            peers.check(operation, (&cmb.side, 0), (&gpu.side, 0), 4 << 20).unwrap();
        }
        switches(pid) == before
    });
    assert!(undisturbed, "the daemon runs while bytes move");
}

#[test]
fn a_lease_is_registered_for_its_own_device_and_direction_only() {
    let daemon = Daemon::start();
    let (client, drives) = (daemon.client(), ["a", "b"].map(Drive::named));
    let pd = ProtectionDomain::new(&device()).unwrap();
    let lease = |initiator: Initiator, direction| {
        let size = Extent::Size(ByteLen::new(65_536));
        client.map(&Map::new(drives[1].region(), size, [initiator], direction)).unwrap()
    };
    let for_a_drive = lease(drives[0].initiator(), Direction::Bidirectional);
    let error = for_a_drive.register(&pd, Access::LOCAL_WRITE).unwrap_err();
    assert!(matches!(error, RegistrationError::AnotherInitiator { .. }), "{error:?}");
    assert!(in_words(&error).contains("`rdma:rxe0`"), "{error}");
    let reading = lease(rxe(), Direction::Read);
    let error = reading.register(&pd, Access::REMOTE_WRITE).unwrap_err();
    assert!(matches!(error, RegistrationError::AnotherDirection { .. }), "{error:?}");
    reading.register(&pd, Access::REMOTE_READ).unwrap();
    lease(rxe(), Direction::Write).register(&pd, Access::LOCAL_WRITE).unwrap();
}

#[test]
fn an_advisory_end_lets_a_registered_transfer_finish() {
    let before = vram::info();
    let Rig { mut peers, cmb, gpu, region, daemon: _daemon } = Rig::new();
    assert_eq!(gpu.lease.info().revocation, Revocation::Advisory);
    assert_eq!(vram::info().memory_regions, 1);
    region.unregister().unwrap();
    // The lease has ended, the memory region hasn't: the client is told, and lets go.
    peers.check(Operation::Write, (&cmb.side, 0), (&gpu.side, 0), 65_536).unwrap();
    drop(gpu);
    until("the GPU has its memory back", || (vram::info() == before).then_some(()));
}
