//! Verbs and endpoints over soft-RoCE: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use peermem::{
    rdma::{
        EndpointConfig, EndpointError, OnDemand, Operation, PreparedEndpoint, RemoteRegion, TransferError,
        probe,
    },
    verbs::{
        Access, AsyncEventKind, Device, DeviceError, GidEntry, GidKind, Memory, MemoryRegion, Mtu, PortState,
        ProtectionDomain, RegisterError, Transport, WorkStatus,
    },
};
use peermem_proto::{ByteLen, Method};
use peermem_scenarios::{
    cmb,
    peers::{DEVICE, Peers, Side, device, in_words, soon, streams},
};

const MIB: ByteLen = ByteLen::new(1 << 20);
const BOTH: [Operation; 2] = [Operation::Write, Operation::Read];

fn peers() -> Peers {
    Peers::connect(&EndpointConfig::default())
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(status.success(), "`{command}` ended with {status}");
}

#[test]
fn the_device_says_what_it_is() {
    let listed = Device::list().unwrap();
    let rxe = listed.iter().find(|device| device.name() == DEVICE).unwrap();
    assert_eq!(rxe.transport(), Transport::Ib);
    let context = rxe.open().unwrap();
    let port = context.port(1).unwrap();
    assert_eq!((port.state, port.active_mtu), (PortState::Active, Some(Mtu::Bytes4096)));
    let gids = context.gids(1).unwrap();
    let preferred = GidEntry::preferred(&gids).unwrap();
    assert!(preferred.gid.is_ipv4_mapped() && preferred.kind == GidKind::RoceV2, "{preferred:?}");
    assert!(context.attributes().unwrap().odp.rc_read_write());
    Arc::into_inner(context).unwrap().close().unwrap();
}

#[test]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    let error = Device::by_name("mlx5_7").unwrap_err();
    assert!(matches!(error, DeviceError::NotFound { .. }));
    assert!(in_words(&error).contains(DEVICE), "{error}");
}

#[test]
fn pinned_memory_moves_byte_for_byte_at_any_offset() {
    let mut peers = peers();
    let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, ByteLen::new(3 << 20), Method::Pinned));
    for operation in BOTH {
        for (near, far, len) in
            [(0, 0, 1), (1, 4095, 2), (513, 77, 70_001), (8, 4096, 2 << 20), (4097, 1, (2 << 20) + 5)]
        {
            peers.check(operation, (&here, near), (&there, far), len).unwrap();
        }
    }
}

#[test]
fn a_transfer_is_split_and_pipelined() {
    let mut peers = Peers::connect(&EndpointConfig {
        depth: 4,
        max_message: ByteLen::new(1 << 16),
        ..Default::default()
    });
    let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, ByteLen::new(4 << 20), Method::Pinned));
    for operation in BOTH {
        peers.check(operation, (&here, 3), (&there, 5), (3 << 20) + 1234).unwrap();
    }
    peers.check(Operation::Write, (&here, 0), (&there, 0), 0).unwrap();
}

#[test]
fn the_self_test_finds_the_page_offset_defect() {
    let quirks = probe::test(&device(), 1).unwrap();
    assert_eq!(quirks.on_demand, OnDemand::PageAlignedOnly { min_path_mtu: Mtu::Bytes4096 });
    let with_shim = std::env::var("LD_PRELOAD").is_ok_and(|preloaded| preloaded.contains("librxe_dmabuf"));
    assert_eq!(quirks.dmabuf, with_shim, "dma-buf registration is there exactly with the preload library");
    let [first, second] = [0; 2].map(|_| probe::quirks(&device(), 1).unwrap());
    assert_eq!(*first, quirks);
    assert!(Arc::ptr_eq(&first, &second), "the first answer wasn't remembered");
}

#[test]
fn on_demand_memory_moves_byte_for_byte_page_by_page() {
    let mut peers = peers();
    for (near, far) in [
        (Method::OnDemand, Method::OnDemand),
        (Method::OnDemand, Method::Pinned),
        (Method::Pinned, Method::OnDemand),
    ] {
        let here = Side::host(&peers.pd, MIB, near);
        let there = Side::host(&peers.pd, MIB, far);
        for operation in BOTH {
            for len in [1, 2, 3, 7, 8, 4095, 4096, 4097, 8191, 3 * 4096 + 1001, (1 << 19) + 1] {
                peers.check(operation, (&here, 8192), (&there, 4096), len).unwrap();
            }
        }
    }
}

#[test]
fn what_would_move_wrong_bytes_is_refused_and_costs_nothing() {
    let mut peers = peers();
    let on_demand = Side::host(&peers.pd, MIB, Method::OnDemand);
    let pinned = Side::host(&peers.pd, MIB, Method::Pinned);
    for operation in BOTH {
        let remote = peers.check(operation, (&pinned, 0), (&on_demand, 16), 4096).unwrap_err();
        assert!(in_words(&remote).contains("the peer's address"), "{remote}");
        let local = peers.check(operation, (&on_demand, 4100), (&pinned, 0), 64).unwrap_err();
        assert!(in_words(&local).contains("page-aligned"), "{local}");
        assert!(matches!(local, TransferError::Unaligned(_)));
        peers.check(operation, (&on_demand, 4096), (&pinned, 4096), 5000).unwrap();
    }
}

#[test]
fn a_small_path_mtu_is_refused_for_on_demand_memory_only() {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            run("ip link set eth0 mtu 9000");
        }
    }
    run("ip link set eth0 mtu 1500");
    let restore = Restore;
    let mut peers = peers();
    assert_eq!(peers.near.path_mtu(), Mtu::Bytes1024);
    let on_demand = Side::host(&peers.pd, MIB, Method::OnDemand);
    let [pinned, other] = [0; 2].map(|_| Side::host(&peers.pd, MIB, Method::Pinned));
    for operation in BOTH {
        peers.check(operation, (&pinned, 100), (&other, 200_000), 10_000).unwrap();
        for (near, far) in [(&on_demand, &pinned), (&pinned, &on_demand)] {
            let error = peers.check(operation, (near, 0), (far, 0), 4096).unwrap_err();
            assert!(in_words(&error).contains("MTU 9000"), "{error}");
        }
    }
    drop(restore);
    assert_eq!(self::peers().near.path_mtu(), Mtu::Bytes4096);
}

#[test]
fn cmb_to_cmb_byte_for_byte() {
    let mut peers = peers();
    let [a, b] =
        [0, 1].map(|drive| Side::new(&peers.pd, cmb::memory(drive, ByteLen::new(4 << 20)), Method::OnDemand));
    for operation in BOTH {
        for (offset, len) in [(0, 8), (4096, 4097), (8192, 65_536), (0, 4 << 20)] {
            peers.check(operation, (&a, offset), (&b, offset), len).unwrap();
        }
    }
}

#[test]
fn a_cmb_can_not_be_pinned_and_the_error_says_what_to_do() {
    let pd = ProtectionDomain::new(&device()).unwrap();
    let error = MemoryRegion::pinned(&pd, cmb::memory(0, MIB), Access::REMOTE_READ).unwrap_err();
    assert!(matches!(error, RegisterError::NotPinnable(_)), "{error:?}");
    assert!(in_words(&error).contains("on-demand"), "{}", in_words(&error));
}

/// What a peer's description becomes when its key is changed on the way.
fn with_another_key(region: &RemoteRegion) -> RemoteRegion {
    let mut json = serde_json::to_value(region).unwrap();
    json["rkey"] = (region.rkey().get() ^ 0x5a00).into();
    serde_json::from_value(json).unwrap()
}

#[test]
fn a_wrong_key_is_a_remote_access_error_and_ends_the_connection() {
    for operation in BOTH {
        let mut peers = peers();
        let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, MIB, Method::Pinned));
        let wrong = with_another_key(&peers.far.describe(&there.whole()).unwrap());
        let error = peers.transfer(operation, &here.whole(), &wrong, 0).unwrap_err();
        let TransferError::Work { source, .. } = &error else { panic!("{error:?}") };
        assert_eq!(source.status, WorkStatus::REMOTE_ACCESS);
        assert!(in_words(&error).contains("remote access error"), "{}", in_words(&error));
        assert!(!peers.near.is_connected());
        let next = peers.check(operation, (&here, 0), (&there, 0), 8).unwrap_err();
        assert!(matches!(next, TransferError::Disconnected), "{next:?}");
    }
}

#[test]
fn a_deregistered_region_is_out_of_reach() {
    let mut peers = peers();
    let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, MIB, Method::Pinned));
    let remote = peers.far.describe(&there.whole()).unwrap();
    Arc::into_inner(there.region).unwrap().close().unwrap();
    let error = peers.transfer(Operation::Write, &here.whole(), &remote, 0).unwrap_err();
    assert!(in_words(&error).contains("remote access error"), "{}", in_words(&error));
}

#[test]
fn more_than_the_region_has_is_refused_before_a_byte_moves() {
    let mut peers = peers();
    let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, MIB, Method::Pinned));
    let remote = peers.far.describe(&there.slice(0, 4096)).unwrap();
    for offset in [1, 4096, u64::MAX] {
        let error = peers.transfer(Operation::Read, &here.slice(0, 4096), &remote, offset).unwrap_err();
        assert!(matches!(error, TransferError::OutOfBounds { .. }), "{error:?}");
    }
    assert!(peers.near.is_connected());
}

#[test]
fn a_peer_that_is_gone_ends_the_transfer() {
    let peers = peers();
    let [here, there] = [0; 2].map(|_| Side::host(&peers.pd, MIB, Method::Pinned));
    let remote = peers.far.describe(&there.whole()).unwrap();
    let Peers { pd, mut near, far } = peers;
    drop(far);
    let begin = Instant::now();
    let error = near.write(&here.whole(), &remote, ByteLen::ZERO, soon()).unwrap_err();
    assert!(in_words(&error).contains("retries exceeded"), "{}", in_words(&error));
    assert!(begin.elapsed() < Duration::from_secs(30), "it took {:?}", begin.elapsed());
    // Nothing of the failed transfer keeps the memory or the device busy.
    drop(near);
    let Side { region, memory } = here;
    Arc::into_inner(region).unwrap().close().unwrap();
    drop((memory, there));
    Arc::into_inner(pd).unwrap().close().unwrap();
}

#[test]
fn a_passed_deadline_ends_the_transfer_and_lets_the_memory_go() {
    let Peers { pd, mut near, far } = peers();
    let [here, there] = [0; 2].map(|_| Side::host(&pd, MIB, Method::Pinned));
    let remote = far.describe(&there.whole()).unwrap();
    drop(far);
    let error = near.write(&here.whole(), &remote, ByteLen::ZERO, Instant::now()).unwrap_err();
    assert!(in_words(&error).contains("deadline"), "{}", in_words(&error));
    assert!(!near.is_connected());
    Arc::into_inner(here.region).expect("the failed transfer still holds the region").close().unwrap();
}

#[test]
fn peers_of_another_version_or_none_are_refused() {
    use std::io::Write as _;
    let pd = ProtectionDomain::new(&device()).unwrap();
    let newer = br#"{"version":7,"path":"quantum"}"#;
    let length = u32::try_from(newer.len()).unwrap().to_be_bytes();
    let none = Instant::now() + Duration::from_secs(2);
    for (bytes, expected, deadline) in [
        (Vec::new(), "deadline", none),
        ([&length[..], newer].concat(), "version 7", soon()),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "announced a message", soon()),
    ] {
        let [near, mut far] = streams();
        far.write_all(&bytes).unwrap();
        let prepared = PreparedEndpoint::new(&pd, EndpointConfig::default()).unwrap();
        let error: EndpointError = prepared.connect(&near, deadline).unwrap_err();
        assert!(in_words(&error).contains(expected), "{}", in_words(&error));
    }
}

#[tokio::test]
async fn transfers_without_a_blocked_thread() {
    let pd = ProtectionDomain::new(&device()).unwrap();
    let prepare = || PreparedEndpoint::new(&pd, EndpointConfig::default()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accept = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        prepare().connect_async(&mut stream, soon()).await.unwrap()
    };
    let connect = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        prepare().connect_async(&mut stream, soon()).await.unwrap()
    };
    let (far, mut near) = tokio::join!(accept, connect);
    let [here, there] = [0; 2].map(|_| Side::host(&pd, MIB, Method::Pinned));
    let remote = far.describe(&there.whole()).unwrap();
    let data = peermem::rdma::pattern::bytes(5, 1 << 20);
    here.memory.write(0, &data).unwrap();
    near.write_async(&here.whole(), &remote, ByteLen::ZERO, soon()).await.unwrap();
    here.memory.write(0, &vec![0; 1 << 20]).unwrap();
    near.read_async(&here.whole(), &remote, ByteLen::ZERO, soon()).await.unwrap();
    let mut found = vec![0; 1 << 20];
    here.memory.read(0, &mut found).unwrap();
    assert!(found == data, "{:?}", peermem::rdma::pattern::difference(&found, &data));

    // The peer is gone, so this can only be cancelled.
    drop(far);
    let (whole, deadline) = (here.whole(), soon());
    let write = near.write_async(&whole, &remote, ByteLen::ZERO, deadline);
    assert!(tokio::time::timeout(Duration::from_millis(50), write).await.is_err());
    assert!(!near.is_connected(), "a cancelled transfer left the connection");
}

#[test]
fn a_port_that_goes_down_is_an_event() {
    struct Remove;
    impl Drop for Remove {
        fn drop(&mut self) {
            run("rdma link delete rxe_down; ip link delete down0");
        }
    }
    run(
        "ip link add down0 type dummy && ip link set down0 up && rdma link add rxe_down type rxe netdev down0",
    );
    let _remove = Remove;
    let context = Device::by_name("rxe_down").unwrap().open().unwrap();
    while context.next_event().unwrap().is_some() {}
    run("ip link set down0 down");
    let deadline = soon();
    let event = loop {
        match context.next_event().unwrap() {
            Some(event) if event.kind == AsyncEventKind::PortError => break event,
            _ => assert!(Instant::now() < deadline, "no event"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(event.port, Some(1));
    let pd = ProtectionDomain::new(&context).unwrap();
    let error = PreparedEndpoint::new(&pd, EndpointConfig::default()).unwrap_err();
    assert!(in_words(&error).contains("isn't active"), "{}", in_words(&error));
}

#[test]
fn memory_can_be_dropped_while_registered() {
    let pd = ProtectionDomain::new(&device()).unwrap();
    let memory = Arc::new(Memory::anonymous(MIB).unwrap());
    let weak = Arc::downgrade(&memory);
    let region = MemoryRegion::pinned(&pd, memory, Access::LOCAL_WRITE).unwrap();
    assert!(weak.upgrade().is_some(), "the region doesn't keep its memory");
    drop(region);
    assert!(weak.upgrade().is_none(), "the memory outlives its region");
}
