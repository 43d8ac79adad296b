//! What happens to a lease between its grant and its end, with the real daemon.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use peermem::{
    CallFailed, Client, Holding, Watch,
    proto::{
        Action, Event, LeaseEnd, LeaseState, Refusal, Revocation, Revoked, Token, call::Explain,
        varlink::CallError,
    },
};
use support::{map, real::Daemon};

const PAGE: u64 = 4096;

fn pair(daemon: &Daemon) -> (Client, Client) {
    let connect = || Client::connect_to(&daemon.socket).unwrap();
    (connect(), connect())
}

fn refusal<T: std::fmt::Debug>(outcome: Result<T, CallFailed>) -> Refusal {
    match outcome {
        Err(CallFailed::Answered(CallError::Refusal(refusal))) => refusal,
        other => panic!("{other:?}"),
    }
}

/// The next event that `wanted` picks.
fn heard<T>(watch: &mut Watch, wanted: impl Fn(Event) -> Option<T>) -> T {
    watch.by_ref().find_map(|event| wanted(event.unwrap())).unwrap()
}

#[test]
fn a_lease_is_renewed_or_expires() {
    let daemon = Daemon::start();
    let (client, other) = pair(&daemon);
    let mut watch = other.watch().unwrap();
    let lease = client.map(&map(PAGE).for_secs(600)).unwrap();
    let first = lease.info().expires_at.unwrap();
    lease.renew(Some(1200)).unwrap();
    assert!(lease.info().expires_at.unwrap() > first, "{:?}", lease.info());
    let began = Instant::now();
    lease.renew(Some(2)).unwrap();
    let state = heard(&mut watch, |event| match event {
        Event::LeaseRevoked { lease } => Some(lease.state),
        _ => None,
    });
    assert!(matches!(state, LeaseState::Revoked { reason: Revoked::Expired, overdue: false, .. }));
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    let expired = Refusal::LeaseRevoked { lease: lease.info().id, reason: Revoked::Expired };
    assert_eq!(refusal(lease.renew(None)), expired);
    assert!(!lease.is_lost(), "the client still has the memory, and must give it back");
    lease.unmap().unwrap();
}

#[test]
fn whoever_revokes_is_told_what_that_means_and_the_client_hears_of_it() {
    let daemon = Daemon::start();
    let (client, other) = pair(&daemon);
    let mut watch = client.watch().unwrap();
    let lease = client.map(&map(PAGE)).unwrap();
    let reply = other.revoke(lease.info().id).unwrap();
    assert_eq!(reply.revocation, Revocation::Advisory);
    assert!(reply.client_must.contains("give it back"), "{reply:?}");
    let revoked = heard(&mut watch, |event| match event {
        Event::LeaseRevoked { lease } => Some(lease.id),
        _ => None,
    });
    assert_eq!(revoked, lease.info().id);
    assert!(matches!(refusal(lease.delegate()), Refusal::LeaseRevoked { .. }));
    lease.unmap().unwrap();
    let end = heard(&mut watch, |event| match event {
        Event::LeaseEnded { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(end, LeaseEnd::Revoked);
    assert!(matches!(refusal(other.revoke(revoked)), Refusal::UnknownLease { .. }));
}

#[test]
fn a_delegated_lease_is_the_same_memory_and_no_longer_the_giver_s() {
    let daemon = Daemon::start();
    let (giver, taker) = pair(&daemon);
    let given = giver.map(&map(PAGE)).unwrap();
    given.mapping().unwrap().copy_from_slice(0, b"handed over").unwrap();
    let [stale, good] = [(); 2].map(|()| given.delegate().unwrap());
    assert!(good.expires_in_secs > 0);
    assert_eq!(refusal(taker.claim(stale.token)), Refusal::UnknownToken {});
    let taken = taker.claim(good.token).unwrap();
    assert_eq!(taken.info().id, given.info().id);
    let mut bytes = [0; 11];
    taken.mapping().unwrap().copy_to_slice(0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"handed over");

    assert!(matches!(refusal(given.renew(None)), Refusal::NotYours { .. }));
    assert!(given.is_lost());
    assert!(matches!(given.delegate(), Err(CallFailed::HoldingLost(Holding::Lease(_)))));
    drop(given);
    taken.renew(None).unwrap();
    assert_eq!(refusal(giver.claim(Token::from_random(1))), Refusal::UnknownToken {});
}

#[tokio::test(flavor = "multi_thread")]
async fn an_asynchronous_client_renews_delegates_and_claims() {
    let daemon = Daemon::start();
    let connect = || peermem::aio::Client::connect_to(&daemon.socket);
    let (giver, taker) = (connect().await.unwrap(), connect().await.unwrap());
    let given = giver.map(&map(PAGE).for_secs(60)).await.unwrap();
    let first = given.info().expires_at;
    given.renew(Some(120)).await.unwrap();
    assert!(given.info().expires_at > first);
    let taken = taker.claim(given.delegate().await.unwrap().token).await.unwrap();
    assert_eq!(taken.info().id, given.info().id);
    taker.revoke(taken.info().id).await.unwrap();
    assert!(matches!(refusal(taken.renew(None).await), Refusal::LeaseRevoked { .. }));
    taken.unmap().await.unwrap();
}

#[test]
fn the_policy_explains_itself() {
    let config =
        "[[policy.rule]]\nname = \"nobody\"\nusers = [1234567]\nregions = [\"emulated\"]\nallow = []\n";
    let daemon = Daemon::with_config(config);
    let (client, _) = pair(&daemon);
    let question = |uid| Explain {
        uid,
        gids: vec![uid],
        action: Action::Map,
        region: Some("emulated".parse().unwrap()),
        initiator: None,
    };
    let no = client.explain(&question(1_234_567)).unwrap();
    assert!(!no.allowed && no.decided_by.as_deref() == Some("nobody"), "{no:?}");
    let nor = client.explain(&question(7_654_321)).unwrap();
    assert_eq!((nor.allowed, nor.decided_by), (false, None));
    let nobody = nor.rules.iter().find(|rule| rule.rule == "nobody").unwrap();
    assert_eq!(nobody.mismatches, ["who"]);
    assert!(client.explain(&question(0)).unwrap().allowed);
}
