//! A daemon that is restarted, or killed, under load: profile `switch`, as root, one test at a time, with the preload
//! library that gives soft-RoCE dma-buf registration.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use peermem::{Client, verbs::Memory};
use peermem_proto::{ByteLen, LeaseId, Refusal, Sharing};
use peermem_scenarios::{
    command::run,
    daemon::{Config, Daemon, SOCKET, UNIT, refusal},
    drive::Drive,
    leased::{request, request_whole, rxe},
    mover::{Pair, be_mover, be_target},
    peers::CpuAccess,
    role::{Role, say, until_let_go},
    vram,
    wait::until,
};

const PAGE: ByteLen = ByteLen::new(4096);
const HOLDERS: usize = 4;
const LEASES_OF_EACH: usize = 250;

#[test]
#[ignore = "a process that is written to all the time"]
fn role_of_a_target() {
    be_target();
}

#[test]
#[ignore = "a process that writes to it all the time"]
fn role_of_a_mover() {
    be_mover();
}

#[test]
#[ignore = "a process with many leases"]
fn role_of_a_holder() {
    let client = Client::connect().unwrap();
    let request = request(Drive::named("c").region(), PAGE, &[rxe()]);
    let leases: Vec<_> = (0..LEASES_OF_EACH).map(|_| client.map(&request).unwrap()).collect();
    let content = |id: LeaseId| id.get().to_le_bytes().repeat(512);
    for lease in &leases {
        lease.mapping().unwrap().put(0, &content(lease.info().id));
    }
    say(&leases.iter().map(|lease| lease.info().id).collect::<Vec<_>>());
    until_let_go();
    for lease in leases {
        assert!(lease.mapping().unwrap().all() == content(lease.info().id), "somebody wrote to it");
        lease.unmap().unwrap();
    }
}

/// The longest time for which no new client got an answer, while `what` was done.
fn downtime(what: impl FnOnce()) -> Duration {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !over.load(Relaxed) {
                if Client::connect_to(SOCKET).is_ok_and(|client| client.status().is_ok()) {
                    longest = longest.max(last.elapsed());
                    last = Instant::now();
                }
                thread::sleep(Duration::from_millis(2));
            }
            longest
        });
        what();
        over.store(true, Relaxed);
        watch.join().unwrap()
    })
}

fn ids(client: &Client) -> BTreeSet<LeaseId> {
    let leases = client.leases().unwrap();
    let ids: BTreeSet<_> = leases.iter().map(|lease| lease.id).collect();
    assert_eq!(ids.len(), leases.len(), "a number twice");
    ids
}

/// Whoever has a descriptor of a drive's allocator gets nothing without a lease, and no more than what is free with one.
fn quota_is_kept(daemon: &Daemon, client: &Client, drive: &Drive) {
    assert_eq!(drive.available(), 0);
    let pool = daemon.pool(drive);
    assert_eq!(pool.missing, ByteLen::ZERO);
    let too_much = request(drive.region(), ByteLen::new(pool.free.get() + PAGE.get()), &[rxe()]);
    assert!(matches!(refusal(client.map(&too_much)), Refusal::NotEnoughSpace { .. }));
    let lease = client.map(&request(drive.region(), PAGE, &[rxe()])).unwrap();
    lease.mapping().unwrap();
    assert!(Memory::shared(lease.memory(), 0, PAGE).is_err(), "a page beyond the lease");
}

/// Nobody who leases, transfers or owns a region notices that the daemon goes and comes back.
fn survives(how: &str, end: impl FnOnce(&Daemon)) {
    let daemon = Daemon::start();
    let drives @ [a, b, c] = &["a", "b", "c"].map(Drive::named);
    let client = daemon.client();
    let (info, region) =
        (vram::info(), vram::register(&client, vram::allocate(PAGE), Sharing::Everyone).unwrap());
    let in_region = client.map(&request_whole(vram::name(), &[rxe()])).unwrap();
    let holders: Vec<_> = (0..HOLDERS).map(|_| Role::start("role_of_a_holder", None)).collect();
    let pairs = [[b, a], [c, b]].map(|[target, mover]| {
        Pair::start(["role_of_a_target", "role_of_a_mover"], [target.region(), mover.region()])
    });
    let held: BTreeSet<LeaseId> = holders.iter().flat_map(|role| role.hear::<Vec<_>>()).collect();
    let before = ids(&client);
    assert_eq!(before.len(), held.len() + 2 * pairs.len() + 1);

    let pid = daemon.pid();
    let downtime = downtime(|| {
        end(&daemon);
        until("everybody is back", || {
            let status = Client::connect_to(SOCKET).ok()?.status().ok()?;
            (status.pid != pid && status.waiting == 0).then_some(())
        });
    });
    assert_eq!(ids(&client), before);
    assert_eq!(daemon.dmabufs(), 1, "the region's dma-buf came back out of systemd's store");
    let listed = client.regions().unwrap().into_iter().find(|region| region.name == vram::name()).unwrap();
    assert_eq!((listed.generation, listed.leases), (region.region().generation, 1));
    for drive in drives {
        quota_is_kept(&daemon, &client, drive);
    }
    let rounds = pairs.map(Pair::let_go);
    println!(
        "{how}: {} leases and 2 transfers went on (rounds: {rounds:?}); no answer for {downtime:?}",
        before.len()
    );
    holders.into_iter().for_each(Role::let_go);
    in_region.unmap().unwrap();
    region.unregister().unwrap();
    drives.iter().for_each(|drive| daemon.waits_for_all_of(drive));
    until("the GPU has its memory back", || (vram::info() == info).then_some(()));
}

#[test]
fn a_restart_loses_no_lease_and_fails_no_transfer() {
    survives("systemctl restart", |_| drop(run(&format!("systemctl restart {UNIT}"))));
}

#[test]
fn kill_9_loses_no_lease_and_fails_no_transfer() {
    survives("kill -9", |daemon| {
        kill(Pid::from_raw(daemon.pid().try_into().unwrap()), Signal::SIGKILL).unwrap();
    });
}

#[test]
fn a_restart_leaves_others_what_the_config_says_then() {
    let leave = |mib: u64| format!("[p2pmem]\nleave = \"{mib}MiB\"\n");
    let drive = Drive::named("a");
    let daemon = Daemon::start_with(Some(&leave(8)));
    let all = daemon.pool(&drive).size.get() + (8 << 20);
    let client = daemon.client();
    let lease = client.map(&request(drive.region(), ByteLen::new(4 << 20), &[rxe()])).unwrap();
    lease.mapping().unwrap().copy_from_slice(0, b"ours").unwrap();
    for mib in [24, 0] {
        let _now = Config::put(Some(&leave(mib)));
        run(&format!("systemctl restart {UNIT}"));
        client.status().unwrap();
        assert!(!lease.is_lost());
        let pool = daemon.pool(&drive);
        assert_eq!((pool.size.get(), drive.available()), (all - (mib << 20), mib << 20));
        assert_eq!(pool.free, ByteLen::new(pool.size.get() - (4 << 20)));
    }
    let mut seen = [0; 4];
    lease.mapping().unwrap().copy_to_slice(0, &mut seen).unwrap();
    assert_eq!(&seen, b"ours");
}
