//! A lease's life: time, revocation, passing on, and its end.

use std::time::Duration;

use peermem_proto::{
    ByteLen, Event, LeaseEnd, LeaseId, LeaseState, Refusal, Revocation, Revoked, Token, call::Map,
};
use peermemd::core::{Answer, Effect, Input, RegionSpec, Returns, SessionId, TOKEN_LIFE};

use crate::support::{
    BEYOND, Core, MEMORY, PAGE, TRANSLATED, UNTRANSLATED, bar, client, pool, request, window,
};

fn core() -> (Core, SessionId) {
    let mut core = Core::new();
    core.step(Input::RegionFound(pool("pool", 8)));
    let session = core.connect(client(1000, 1));
    (core, session)
}

fn events(effects: &[Effect]) -> Vec<&Event> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Announce(event) => Some(event),
        _ => None,
    });
    events.collect()
}

fn state(core: &Core, lease: LeaseId) -> LeaseState {
    core.lease(lease).unwrap().state
}

#[test]
fn a_lease_without_an_end_lasts_until_it_is_given_back() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1)).unwrap();
    assert_eq!(lease.expires_at, None);
    core.pass(1_000_000);
    assert_eq!(state(&core, lease.id), LeaseState::Active {});
    core.unmap(session, lease.id).unwrap();
    assert_eq!(core.unmap(session, lease.id), Err(Refusal::UnknownLease { lease: lease.id }));
}

#[test]
fn an_initiator_that_is_named_twice_is_one() {
    let (mut core, session) = core();
    let mut twice = request("pool", 1);
    twice.initiators.extend(twice.initiators.clone());
    let lease = core.map(session, twice).unwrap();
    assert_eq!(lease.paths.len(), 1, "{lease:?}");
}

#[test]
fn a_lease_expires_unless_it_is_renewed() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1).for_secs(10)).unwrap();
    assert_eq!(lease.expires_at, Some(core.now.after(Duration::from_secs(10))));
    assert_eq!(core.broker.next_deadline(), lease.expires_at);
    core.pass(9);
    let renewed = core.renew(session, lease.id, Some(10)).unwrap();
    assert_eq!(renewed.expires_at, Some(core.now.after(Duration::from_secs(10))));
    assert!(events(&core.pass(9)).is_empty(), "it ended at its old time");
    let ended = core.pass(1);
    assert!(matches!(&events(&ended)[..], [Event::LeaseRevoked { lease: ended }] if ended.id == lease.id));
    assert!(matches!(state(&core, lease.id), LeaseState::Revoked { reason: Revoked::Expired, .. }));
    let refused = core.renew(session, lease.id, Some(10)).unwrap_err();
    assert_eq!(refused, Refusal::LeaseRevoked { lease: lease.id, reason: Revoked::Expired });
}

#[test]
fn what_is_due_happens_before_what_comes() {
    let (mut core, session) = core();
    let lease = core.map(session, request("pool", 1).for_secs(10)).unwrap();
    core.now = core.now.after(Duration::from_secs(11));
    // No tick came in between.
    assert!(matches!(core.renew(session, lease.id, None), Err(Refusal::LeaseRevoked { .. })));
}

#[test]
fn a_lease_of_no_time_is_refused() {
    let (mut core, session) = core();
    assert!(matches!(core.map(session, request("pool", 1).for_secs(0)), Err(Refusal::BadExtent { .. })));
}

#[test]
fn a_client_that_ignores_a_revocation_is_overdue_until_it_lets_go() {
    let (mut core, session) = core();
    let root = core.connect(client(0, 2));
    let lease = core.map(session, request("pool", 4)).unwrap().id;
    let revoked = core.answer(|ticket| Input::Revoke(root, ticket, lease));
    assert_eq!(revoked, Ok(Answer::Revoked(Revocation::Advisory)));
    assert_eq!(core.free("pool"), 4, "the client still has the memory");
    assert_eq!(core.broker.overdue_count(), 0);
    assert!(events(&core.pass(29)).is_empty());
    let late = core.pass(1);
    assert!(matches!(events(&late)[..], [Event::LeaseOverdue { .. }]), "{late:?}");
    assert_eq!(core.broker.overdue_count(), 1);
    // Once more changes nothing.
    core.answer(|ticket| Input::Revoke(root, ticket, lease)).unwrap();
    assert!(state(&core, lease).is_overdue());

    let (answer, effects) = core.call(|ticket| Input::Unmap(session, ticket, lease));
    assert_eq!(answer, Some(Ok(Answer::Done)));
    let ended = |event: &&Event| matches!(event, Event::LeaseEnded { reason: LeaseEnd::Revoked, .. });
    assert!(events(&effects).iter().any(ended), "{effects:?}");
    assert_eq!((core.free("pool"), core.broker.overdue_count()), (8, 0));
    assert!(events(&core.pass(100)).is_empty(), "something of it was left");
}

#[test]
fn an_enforced_revocation_ends_the_lease_at_once() {
    let (mut core, session) = core();
    let root = core.connect(client(0, 2));
    core.step(Input::RegionFound(RegionSpec { revocation: Revocation::Enforced, ..pool("bar", 4) }));
    let lease = core.map(session, request("bar", 4)).unwrap().id;
    let (answer, effects) = core.call(|ticket| Input::Revoke(root, ticket, lease));
    assert_eq!(answer, Some(Ok(Answer::Revoked(Revocation::Enforced))));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Release { .. })), "{effects:?}");
    assert_eq!(core.free("bar"), 4);
}

#[test]
fn the_owner_of_a_region_revokes_its_leases_and_nobody_else_does() {
    let (mut core, _) = core();
    let [owner, user] = [core.connect(client(1, 11)), core.connect(client(1, 12))];
    core.answer(|ticket| Input::Register(owner, ticket, window("gpu", 4))).unwrap();
    let lease = core.map(user, request("gpu", 4)).unwrap().id;
    let refused = core.answer(|ticket| Input::Revoke(user, ticket, lease)).unwrap_err();
    assert!(matches!(refused, Refusal::NotAllowed { .. }), "{refused}");
    core.answer(|ticket| Input::Revoke(owner, ticket, lease)).unwrap();
    assert!(matches!(state(&core, lease), LeaseState::Revoked { reason: Revoked::RegionOwner, .. }));
}

#[test]
fn a_delegated_lease_moves_with_everything_that_it_counts_for() {
    let (mut core, from) = core();
    let to = core.connect(client(2000, 2));
    let lease = core.map(from, request("pool", 4).for_secs(100)).unwrap();
    let token = core.delegate(from, lease.id).unwrap();
    assert_eq!(core.lease(lease.id).unwrap().owner.uid, 1000, "it stays until it is claimed");
    let claimed = core.claim(to, token).unwrap();
    assert_eq!((claimed.id, claimed.owner.uid, claimed.expires_at), (lease.id, 2000, lease.expires_at));
    assert_eq!(core.claim(to, token), Err(Refusal::UnknownToken {}), "a token was good twice");
    let held: Vec<_> = core.broker.users().map(|(uid, held)| (uid, held.leases)).collect();
    assert_eq!(held, [(2000, 1)]);
    assert!(matches!(core.unmap(from, lease.id), Err(Refusal::NotYours { .. })));
    core.step(Input::Disconnected(from));
    assert!(core.lease(lease.id).is_some(), "it went with its former owner");
    core.step(Input::Disconnected(to));
    assert!(core.lease(lease.id).is_none());
}

#[test]
fn a_token_is_good_once_for_a_while_and_for_a_held_lease_only() {
    let (mut core, from) = core();
    let to = core.connect(client(2000, 2));
    let root = core.connect(client(0, 3));
    let lease = core.map(from, request("pool", 1)).unwrap().id;

    let token = core.delegate(from, lease).unwrap();
    let gone = core.pass(TOKEN_LIFE.as_secs());
    assert_eq!(gone, [Effect::Forget(token)]);
    assert_eq!(core.claim(to, token), Err(Refusal::UnknownToken {}));

    let first = core.delegate(from, lease).unwrap();
    let (_, effects) =
        core.call(|ticket| Input::Delegate(from, ticket, lease, MEMORY, Token::from_random(77)));
    assert_eq!(effects, [Effect::Forget(first)], "a second token leaves the first one good");

    let token = core.delegate(from, lease).unwrap();
    core.answer(|ticket| Input::Revoke(root, ticket, lease)).unwrap();
    assert_eq!(core.claim(to, token), Err(Refusal::UnknownToken {}));
    assert!(matches!(core.delegate(from, lease), Err(Refusal::LeaseRevoked { .. })));
    assert!(core.broker.users().all(|(_, held)| held.descriptors == 0));
}

#[test]
fn only_the_memory_that_was_granted_can_be_passed_on() {
    let (mut core, from) = core();
    let lease = core.map(from, request("pool", 1)).unwrap().id;
    let other = peermemd::core::MemoryId { inode: 99, ..MEMORY };
    let refused = core.answer(|ticket| Input::Delegate(from, ticket, lease, other, Token::from_random(1)));
    assert_eq!(refused, Err(Refusal::NotTheMemory { lease }));
    let stranger = core.connect(client(2000, 2));
    assert!(matches!(core.delegate(stranger, lease), Err(Refusal::NotYours { .. })));
}

#[test]
fn a_user_keeps_so_many_descriptors_in_the_daemon() {
    let (mut core, session) = core();
    for region in ["a", "b", "c", "d"] {
        core.answer(|ticket| Input::Register(session, ticket, window(region, 1))).unwrap();
    }
    let lease = core.map(session, request("pool", 1)).unwrap().id;
    let refused = core.delegate(session, lease).unwrap_err();
    assert!(matches!(refused, Refusal::LimitReached { key, limit: 4, .. } if key == "descriptors_per_user"));
    core.answer(|ticket| Input::Unregister(session, ticket, "a".parse().unwrap())).unwrap();
    core.delegate(session, lease).unwrap();
}

#[test]
fn memory_that_its_client_keeps_is_missing_and_not_free() {
    let mut core = Core::new();
    core.step(Input::RegionFound(RegionSpec { returns: Returns::InItsTime, ..pool("cmb", 8) }));
    let session = core.connect(client(1000, 1));
    let lease = core.map(session, request("cmb", 6)).unwrap().id;
    core.unmap(session, lease).unwrap();
    let region = core.broker.regions().next().unwrap();
    assert_eq!((region.free, region.missing), (ByteLen::new(2 * PAGE), ByteLen::new(6 * PAGE)));
    assert!(matches!(core.map(session, request("cmb", 3)), Err(Refusal::NotEnoughSpace { .. })));
    core.step(Input::Recovered("cmb".parse().unwrap(), ByteLen::new(6 * PAGE)));
    assert_eq!(core.free("cmb"), 8);
}

#[test]
fn memory_that_comes_after_its_client_has_gone_is_waited_for_too() {
    let mut core = Core::new();
    core.step(Input::RegionFound(RegionSpec { returns: Returns::InItsTime, ..pool("cmb", 8) }));
    for carved in [true, false] {
        let session = core.connect(client(1000, 1));
        let (_, effects) = core.call(|ticket| Input::Map(session, ticket, request("cmb", 8)));
        let [Effect::Carve { lease, .. }] = effects[..] else { panic!("{effects:?}") };
        core.step(Input::Disconnected(session));
        assert_eq!(core.free("cmb"), 0, "the provider is at it");
        if carved {
            let effects = core.step(Input::Carved(lease, Ok(MEMORY.into())));
            assert!(matches!(effects[..], [Effect::Release { .. }]), "{effects:?}");
            core.step(Input::Recovered("cmb".parse().unwrap(), ByteLen::new(8 * PAGE)));
        } else {
            let fault = peermem_proto::Fault::NotRecorded { reason: "any".to_owned() };
            assert!(core.step(Input::Carved(lease, Err(fault.into()))).is_empty());
        }
        assert_eq!(core.free("cmb"), 8);
    }
}

#[test]
fn a_lease_lasts_from_its_grant_on_however_long_the_memory_took() {
    let (mut core, session) = core();
    let (_, effects) = core.call(|ticket| Input::Map(session, ticket, request("pool", 1).for_secs(10)));
    let [Effect::Carve { lease, .. }] = effects[..] else { panic!("{effects:?}") };
    core.pass(60);
    core.step(Input::Carved(lease, Ok(MEMORY.into())));
    assert_eq!(core.lease(lease).unwrap().expires_at, Some(core.now.after(Duration::from_secs(10))));
}

#[test]
fn without_an_iommu_memory_is_reached_below_one_root_port_and_can_not_be_taken_back() {
    let mut core = Core::new();
    core.step(Input::RegionFound(bar("fpga", "0000:01:00.0".parse().unwrap(), 8)));
    let session = core.connect(client(1000, 1));
    let mut map = |initiator: &str| {
        let request = Map { initiators: vec![initiator.parse().unwrap()], ..request("fpga", 1) };
        core.map(session, request).map(|lease| lease.revocation)
    };
    assert_eq!(map(TRANSLATED), Ok(Revocation::Enforced));
    assert_eq!(map(UNTRANSLATED), Ok(Revocation::Advisory));
    let Err(Refusal::NoRoute { why, .. }) = map(BEYOND) else { panic!("where it is isn't known") };
    assert!(why.contains("no IOMMU") && why.contains("host bridge"), "{why}");
}
