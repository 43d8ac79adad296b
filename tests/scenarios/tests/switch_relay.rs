//! From a drive through device memory to a peer, reads and writes overlapped: profile `switch`, as root, one test at a time.
#![allow(clippy::unwrap_used)]

use std::{fs::File, io, os::unix::fs::OpenOptionsExt, sync::Mutex};

use nix::libc::O_DIRECT;
use peermem::rdma::{EndpointConfig, Relay, RelayError, pattern};
use peermem_proto::{ByteLen, ByteRange, Method, Sharing};
use peermem_scenarios::{
    daemon::Daemon,
    drive::Drive,
    leased::{Leased, request, request_whole, rxe},
    peers::{CpuAccess, Peers, Side, soon},
    vram,
};

const PIECE: u64 = 64 << 10;
/// Ends in the middle of a piece.
const TOTAL: u64 = 40 * PIECE + 4096;

#[test]
fn a_drives_bytes_pass_through_another_drives_buffer_to_the_gpu() {
    let daemon = Daemon::start();
    let (owner, client, [a, b]) = (daemon.client(), daemon.client(), ["a", "b"].map(Drive::named));
    let Peers { pd, mut near, far } = Peers::connect(&EndpointConfig::default());
    let size = ByteLen::new(TOTAL + 2 * PIECE);
    let _region = vram::register(&owner, vram::allocate(size), Sharing::Everyone).unwrap();
    let gpu = Leased::new(&client, &pd, &request_whole(vram::name(), &[rxe()]));
    let buffer = request(b.region(), ByteLen::new(3 * PIECE), &[a.initiator(), rxe()]);
    let buffer = Leased::new(&client, &pd, &buffer);
    let bytes = pattern::bytes(7, usize::try_from(TOTAL).unwrap());
    a.write(0, &bytes);
    let disk = File::options().read(true).custom_flags(O_DIRECT).open(&a.disk).unwrap();

    let before = pattern::bytes(8, gpu.side.memory.size());
    for slots in [1, 3] {
        gpu.side.memory.put(0, &before);
        let slots: Vec<_> = (0..slots).map(|slot| buffer.side.slice(slot * PIECE, PIECE)).collect();
        let remote = far.describe(&gpu.side.whole()).unwrap();
        let relay = Relay { slots: &slots, remote: &remote, offset: ByteLen::new(PIECE), deadline: soon() };
        let fill = |gone: ByteLen, slot: usize| {
            let length = PIECE.min(TOTAL - gone.get());
            let [at, count] = [slot as u64 * PIECE, length].map(|n| usize::try_from(n).unwrap());
            buffer.side.memory.read_file(at, count, &disk, gone.get())?;
            Ok::<_, peermem::DirectIoError>(ByteLen::new(length))
        };
        let mut arrived = Vec::new();
        let moved = near.relay(&relay, fill, |part: ByteRange| {
            arrived.push(part);
            Ok(())
        });
        assert_eq!(moved.unwrap().get(), TOTAL);
        let mut next = 0;
        for part in arrived {
            assert_eq!(part.offset().get(), next, "they arrive in order");
            next = part.end().get();
        }
        assert_eq!(next, TOTAL);
        let mut expected = before.clone();
        let start = usize::try_from(PIECE).unwrap();
        expected[start..start + bytes.len()].copy_from_slice(&bytes);
        let found = gpu.side.memory.all();
        assert_eq!(pattern::difference(&found, &expected), None, "{} slots", slots.len());
    }
}

#[test]
fn a_fill_that_fails_leaves_the_endpoint_connected_and_what_went_before_there() {
    let Peers { pd, mut near, far } = Peers::connect(&EndpointConfig::default());
    let [here, there] = [0; 2].map(|_| Side::host(&pd, ByteLen::new(8 * PIECE), Method::Pinned));
    let slots = [here.slice(0, PIECE), here.slice(PIECE, PIECE)];
    let remote = far.describe(&there.whole()).unwrap();
    let relay = Relay { slots: &slots, remote: &remote, offset: ByteLen::ZERO, deadline: soon() };
    let filled = Mutex::new(Vec::new());
    let fill = |gone: ByteLen, slot: usize| {
        let number = gone.get() / PIECE;
        if number == 5 {
            return Err(io::Error::other("the drive is gone"));
        }
        filled.lock().unwrap().push(slot);
        here.memory.put(slot * 65_536, &pattern::bytes(number, 65_536));
        Ok(ByteLen::new(PIECE))
    };
    let error = near.relay(&relay, fill, |_| Ok(())).unwrap_err();
    assert!(matches!(&error, RelayError::Caller(why) if why.to_string() == "the drive is gone"), "{error:?}");
    assert_eq!(*filled.lock().unwrap(), [0, 1, 0, 1, 0]);
    for number in 0..5 {
        let mut found = vec![0; 65_536];
        there.memory.get(usize::try_from(number).unwrap() * 65_536, &mut found);
        assert_eq!(found, pattern::bytes(number, 65_536), "piece {number}");
    }

    assert!(near.is_connected());
    let beyond = Relay { offset: ByteLen::new(7 * PIECE + 1), ..relay };
    let error = near.relay(&beyond, |_, _| Ok::<_, io::Error>(ByteLen::new(PIECE)), |_| Ok(())).unwrap_err();
    assert!(matches!(error, RelayError::Transfer(_)), "{error:?}");
    assert!(near.is_connected(), "nothing was started");
    let end = near.relay(&relay, |_, _| Ok::<_, io::Error>(ByteLen::ZERO), |_| Ok(())).unwrap();
    assert_eq!(end, ByteLen::ZERO);
    near.write(&here.slice(0, PIECE), &remote, ByteLen::ZERO, soon()).unwrap();
}
