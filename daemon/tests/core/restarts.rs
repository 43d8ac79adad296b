//! What a restart leaves of leases and regions.

use peermem_proto::{ByteLen, Event, LeaseEnd, LeaseId, LeaseState, ProviderKind, Refusal};
use peermemd::core::{Effect, Input, RegionSpec, Returns, SessionId, Share};

use crate::support::{Core, LIMITS, PAGE, client, pool, request, window};

fn core() -> (Core, SessionId) {
    let mut core = Core::new();
    core.step(Input::RegionFound(pool("pool", 8)));
    let session = core.connect(client(1000, 1));
    (core, session)
}

fn endings(effects: &[Effect]) -> Vec<(LeaseId, LeaseEnd)> {
    let endings = effects.iter().filter_map(|effect| match effect {
        Effect::Announce(Event::LeaseEnded { lease, reason }) => Some((lease.id, *reason)),
        _ => None,
    });
    endings.collect()
}

#[test]
fn a_client_that_comes_back_finds_its_leases_as_they_were() {
    let (mut core, session) = core();
    let plain = core.map(session, request("pool", 1)).unwrap();
    let timed = core.map(session, request("pool", 2).for_secs(100)).unwrap();
    let revoked = core.map(session, request("pool", 1)).unwrap();
    let root = core.connect(client(0, 9));
    core.answer(|ticket| Input::Revoke(root, ticket, revoked.id)).unwrap();
    let before = core.lease(revoked.id).unwrap().state;

    let (mut core, effects) = core.restarted(vec![pool("pool", 8)], |_| true);
    assert!(endings(&effects).is_empty());
    assert_eq!((core.broker.waiting_count(), core.free("pool")), (3, 4));
    let session = core.connect(client(1000, 1));
    assert!(matches!(core.unmap(session, plain.id), Err(Refusal::NotYours { .. })), "it must resume first");
    let ids = [plain.id, timed.id, revoked.id];
    let lost = core.resume(session, &ids, &[]);
    assert!(lost.lost_leases.is_empty(), "{lost:?}");
    assert_eq!(core.lease(plain.id), Some(&plain));
    assert_eq!(core.lease(timed.id), Some(&timed));
    assert_eq!(core.lease(revoked.id).unwrap().state, before);
    assert!(core.resume(session, &ids, &[]).lost_leases.is_empty(), "twice is once");
    core.pass(LIMITS.resume_grace.as_secs());
    assert_eq!(core.broker.leases().count(), 3);
    let late = core.pass(100);
    assert!(
        late.iter().any(|effect| matches!(effect, Effect::Announce(Event::LeaseOverdue { .. }))),
        "{late:?}"
    );
    assert!(matches!(core.lease(timed.id).unwrap().state, LeaseState::Revoked { .. }), "its time goes on");
}

#[test]
fn a_region_is_as_large_as_the_config_has_it_now() {
    let (mut core, session) = core();
    core.map(session, request("pool", 2)).unwrap();
    let (larger, _) = core.restarted(vec![pool("pool", 16)], |_| true);
    assert_eq!((larger.broker.waiting_count(), larger.free("pool")), (1, 14));
    let (smaller, effects) = core.restarted(vec![pool("pool", 1)], |_| true);
    assert_eq!(endings(&effects).len(), 1, "it has no room any more");
    assert_eq!(smaller.free("pool"), 1);
}

/// A part of what others take from too.
fn held(pages: u64) -> RegionSpec {
    RegionSpec {
        provider: ProviderKind::P2pmem,
        share: Some(Share::default()),
        returns: Returns::InItsTime,
        ..pool("held", pages)
    }
}

#[test]
fn what_leases_have_of_a_share_is_of_it_still() {
    let mut core = Core::new();
    core.step(Input::RegionFound(held(8)));
    for (found, size) in [(6, 8), (10, 10)] {
        // Ended leases' clients have some of it still, or others had when the first daemon took it.
        assert_eq!(core.restarted(vec![held(found)], |_| true).0.free("held"), size);
    }
    let session = core.connect(client(1000, 1));
    core.map(session, request("held", 2)).unwrap();
    // The lease has the rest of it.
    let (as_before, _) = core.restarted(vec![held(6)], |_| true);
    assert_eq!((as_before.broker.waiting_count(), as_before.free("held")), (1, 6));
    // Nobody holds this one, and what is mapped of it isn't there to be counted either.
    let counted = |pages| RegionSpec { returns: Returns::AtOnce, ..held(pages) };
    let mut unheld = Core::new();
    unheld.step(Input::RegionFound(counted(8)));
    let session = unheld.connect(client(1000, 1));
    unheld.map(session, request("held", 5)).unwrap();
    let (as_before, effects) = unheld.restarted(vec![counted(3)], |_| true);
    assert!(endings(&effects).is_empty(), "{effects:?}");
    assert_eq!((as_before.broker.waiting_count(), as_before.free("held")), (1, 3));
    // Held no longer: what a lease had is free with its end, which nobody else tells of.
    let (mut let_go, _) = core.restarted(vec![counted(6)], |_| true);
    let_go.pass(LIMITS.resume_grace.as_secs());
    assert_eq!((let_go.broker.lease_count(), let_go.free("held")), (0, 8));
}

#[test]
fn a_share_on_new_terms_has_its_new_size() {
    let pages = |count| ByteLen::new(count * PAGE);
    let mut core = Core::new();
    core.step(Input::RegionFound(held(8)));
    let session = core.connect(client(1000, 1));
    let after = |core: &Core, most: Option<u64>, leave, found| {
        let share = Some(Share { most: most.map(pages), leave: pages(leave) });
        let (core, effects) = core.restarted(vec![RegionSpec { share, ..held(found) }], |_| true);
        assert!(endings(&effects).is_empty(), "{effects:?}");
        (core.broker.waiting_count(), core.free("held"))
    };
    assert_eq!(after(&core, None, 3, 5), (0, 5), "nobody has anything of it");
    core.map(session, request("held", 2)).unwrap();
    assert_eq!(after(&core, None, 3, 3), (1, 3));
    assert_eq!(after(&core, Some(4), 0, 4), (1, 2), "leases count");
    assert_eq!(after(&core, Some(1), 0, 1), (1, 0), "more than that is leased already");
    // What the dead had is there to be found.
    let share = Some(Share { most: None, leave: pages(3) });
    let (alone, _) = core.restarted(vec![RegionSpec { share, ..held(5) }], |_| false);
    assert_eq!((alone.broker.lease_count(), alone.free("held")), (0, 5));
}

#[test]
fn numbers_are_never_given_twice() {
    let (mut core, session) = core();
    let ended = core.map(session, request("pool", 1)).unwrap();
    core.unmap(session, ended.id).unwrap();
    let (mut core, _) = core.restarted(vec![pool("pool", 8)], |_| true);
    // Once more, out of the snapshot alone.
    let (mut core, _) = {
        core.step(Input::Tick);
        core.restarted(vec![pool("pool", 8)], |_| true)
    };
    let session = core.connect(client(1000, 1));
    assert!(core.map(session, request("pool", 1)).unwrap().id > ended.id);
}

#[test]
fn who_does_not_come_back_in_time_has_lost_its_leases() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1)).unwrap().id;
    let (mut core, _) = core.restarted(vec![pool("pool", 8)], |_| true);
    assert!(endings(&core.pass(LIMITS.resume_grace.as_secs() - 1)).is_empty());
    assert_eq!(endings(&core.pass(1)), [(lease, LeaseEnd::NotResumed)]);
    let session = core.connect(client(1000, 1));
    assert_eq!(core.resume(session, &[lease], &[]).lost_leases, [lease]);
}

#[test]
fn the_dead_lose_theirs_at_once() {
    let (mut core, session) = core();
    let other = core.connect(client(1000, 2));
    let [dead, dies] =
        [core.map(session, request("pool", 1)).unwrap().id, core.map(other, request("pool", 1)).unwrap().id];
    let (mut core, effects) = core.restarted(vec![pool("pool", 8)], |client| client.owner.pid != 1);
    assert_eq!(endings(&effects), [(dead, LeaseEnd::OwnerGone)]);
    assert_eq!(endings(&core.step(Input::Died(client(1000, 2)))), [(dies, LeaseEnd::OwnerGone)]);
}

#[test]
fn nobody_else_can_resume_a_lease() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1)).unwrap().id;
    let (mut core, _) = core.restarted(vec![pool("pool", 8)], |_| true);
    let mut reused = client(1000, 1);
    reused.process = Some(77);
    for impostor in [client(1000, 2), client(2000, 1), client(0, 3), reused] {
        let session = core.connect(impostor.clone());
        assert_eq!(core.resume(session, &[lease], &[]).lost_leases, [lease], "{impostor:?}");
    }
    // Of another table of leases, even the owner has none.
    let session = core.connect(client(1000, 1));
    let elsewhere =
        peermem_proto::call::Resume { instance: "another".to_owned(), leases: vec![lease], regions: vec![] };
    let answer = core.answer(|ticket| Input::Resume(session, ticket, elsewhere));
    assert!(
        matches!(&answer, Ok(peermemd::core::Answer::Resumed(reply)) if reply.lost_leases == [lease]),
        "{answer:?}"
    );
    assert!(core.resume(session, &[lease], &[]).lost_leases.is_empty());
}

#[test]
fn a_region_that_is_another_one_now_has_no_leases() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1)).unwrap();
    let plugged_again = RegionSpec { incarnation: 5, ..pool("pool", 8) };
    let (core, effects) = core.restarted(vec![plugged_again], |_| true);
    assert_eq!(endings(&effects), [(lease.id, LeaseEnd::RegionGone)]);
    assert!(core.broker.regions().next().unwrap().generation > lease.generation);
    let (_, effects) = self::core().0.restarted(vec![], |_| true);
    assert!(effects.is_empty());
}

#[test]
fn a_registered_region_waits_for_its_owner_with_the_leases_in_it() {
    let (mut core, user) = core();
    let owner = core.connect(client(1000, 2));
    core.answer(|ticket| Input::Register(owner, ticket, window("gpu", 4))).unwrap();
    let lease = core.map(user, request("gpu", 4)).unwrap().id;
    let regions = vec![pool("pool", 8), window("gpu", 4)];

    let (mut back, _) = core.restarted(regions.clone(), |_| true);
    let [user, owner] = [back.connect(client(1000, 1)), back.connect(client(1000, 2))];
    assert_eq!(back.resume(user, &[lease], &["gpu"]).lost_regions.len(), 1, "the user owns no region");
    assert!(back.resume(owner, &[], &["gpu"]).lost_regions.is_empty());
    back.pass(100);
    assert!(back.lease(lease).is_some());
    back.answer(|ticket| Input::Unregister(owner, ticket, "gpu".parse().unwrap())).unwrap();

    let (mut absent, _) = core.restarted(regions.clone(), |_| true);
    let user = absent.connect(client(1000, 1));
    absent.resume(user, &[lease], &[]);
    let ended = absent.pass(100);
    assert_eq!(endings(&ended), [(lease, LeaseEnd::RegionGone)]);
    assert!(ended.contains(&Effect::Close("gpu".parse().unwrap())));

    let (dead, effects) = core.restarted(regions, |client| client.owner.pid != 2);
    assert_eq!(endings(&effects), [(lease, LeaseEnd::RegionGone)]);
    assert!(effects.contains(&Effect::Close("gpu".parse().unwrap())));
    assert_eq!(dead.broker.region_count(), 1);
}

#[test]
fn a_daemon_that_goes_resumes_nothing() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1)).unwrap().id;
    core.step(Input::Drain);
    let early = core.connect(client(1000, 1));
    let resume =
        peermem_proto::call::Resume { instance: "instance".to_owned(), leases: vec![lease], regions: vec![] };
    let answer = core.answer(|ticket| Input::Resume(early, ticket, resume));
    assert_eq!(answer, Err(Refusal::Draining {}), "it was told that its lease is lost");
}
