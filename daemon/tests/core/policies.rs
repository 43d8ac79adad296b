//! What the policy has to say in the core.

use std::{collections::BTreeSet, time::Duration};

use peermem_proto::{Action, ByteLen, LeaseState, Refusal, Revoked};
use peermemd::{
    core::{Input, SessionId},
    policy::{Bounds, Globs, Policy, Rule, Who},
};

use crate::support::{Core, LIMITS, PAGE, client, pool, request, window};

/// A rule for one user.
fn rule(name: &str, uid: u32, allow: &[Action], bounds: Bounds) -> Rule {
    Rule {
        name: name.parse().unwrap(),
        who: Who { uids: vec![uid..=uid], gids: BTreeSet::new() },
        regions: Globs::all(),
        initiators: Globs::all(),
        allow: allow.iter().copied().collect(),
        bounds,
    }
}

fn policy(rules: Vec<Rule>) -> Policy {
    let mut policy = Policy::built_in(999);
    for rule in rules {
        policy.push(rule).unwrap();
    }
    policy
}

const NO_BOUNDS: Bounds = Bounds { bytes_per_user: None, leases_per_user: None, longest_lease: None };

fn core(rules: Vec<Rule>) -> (Core, SessionId) {
    let mut core = Core::with_policy(policy(rules));
    core.step(Input::RegionFound(pool("pool", 8)));
    let session = core.connect(client(1000, 1));
    (core, session)
}

#[test]
fn who_has_no_rule_gets_nothing_and_root_needs_none() {
    let (mut core, stranger) = core(vec![rule("others", 5, &Action::ALL, NO_BOUNDS)]);
    let refused = core.map(stranger, request("pool", 1)).unwrap_err();
    assert!(matches!(&refused, Refusal::NotAllowed { action: Action::Map, rule: None, .. }), "{refused}");
    let refused = core.answer(|ticket| Input::Register(stranger, ticket, window("gpu", 1))).unwrap_err();
    assert!(matches!(&refused, Refusal::NotAllowed { action: Action::Register, .. }), "{refused}");
    assert!(core.broker.may_watch(stranger).is_err());
    let root = core.connect(client(0, 2));
    core.map(root, request("pool", 1)).unwrap();
    assert_eq!(core.broker.may_watch(root), Ok(0));
}

#[test]
fn a_refusal_names_the_rule() {
    let (mut core, session) = core(vec![rule("readers", 1000, &[Action::Watch], NO_BOUNDS)]);
    let refused = core.map(session, request("pool", 1)).unwrap_err();
    assert!(
        matches!(&refused, Refusal::NotAllowed { rule: Some(rule), .. } if rule == "readers"),
        "{refused}"
    );
    assert!(refused.to_string().contains("readers"), "{refused}");
}

#[test]
fn quotas_hold_over_all_connections_and_come_back_with_each_lease() {
    let bounds = Bounds {
        bytes_per_user: Some(ByteLen::new(4 * PAGE)),
        leases_per_user: Some(2),
        longest_lease: None,
    };
    let (mut core, first) = core(vec![rule("tenant", 1000, &Action::ALL, bounds)]);
    let second = core.connect(client(1000, 2));
    let lease = core.map(first, request("pool", 3)).unwrap().id;
    let refused = core.map(second, request("pool", 2)).unwrap_err();
    assert!(
        matches!(&refused, Refusal::OverQuota { rule, what, held, asked, limit, .. }
            if rule == "tenant" && what == "bytes" && (*held, *asked, *limit) == (3 * PAGE, 2 * PAGE, 4 * PAGE)),
        "{refused}"
    );
    core.map(second, request("pool", 1)).unwrap();
    core.unmap(first, lease).unwrap();
    core.map(first, request("pool", 1)).unwrap();
    let refused = core.map(second, request("pool", 1)).unwrap_err();
    assert!(matches!(&refused, Refusal::OverQuota { what, limit: 2, .. } if what == "leases"), "{refused}");
}

#[test]
fn a_claim_is_under_the_claimants_own_rule_and_quota() {
    let small = Bounds { bytes_per_user: Some(ByteLen::new(PAGE)), ..NO_BOUNDS };
    let rules = vec![
        rule("giver", 1000, &Action::ALL, NO_BOUNDS),
        rule("taker", 2000, &[Action::Map], small),
        rule("mute", 3000, &[], NO_BOUNDS),
    ];
    let (mut core, giver) = core(rules);
    let [taker, mute] = [core.connect(client(2000, 2)), core.connect(client(3000, 3))];
    let large = core.map(giver, request("pool", 2)).unwrap().id;
    let token = core.delegate(giver, large).unwrap();
    assert!(
        matches!(core.claim(mute, token), Err(Refusal::NotAllowed { rule: Some(rule), .. }) if rule == "mute")
    );
    assert!(matches!(core.claim(taker, token), Err(Refusal::OverQuota { rule, .. }) if rule == "taker"));
    assert_eq!(core.lease(large).unwrap().owner.uid, 1000, "a refused claim moved the lease");
    let small = core.map(giver, request("pool", 1)).unwrap().id;
    let token = core.delegate(giver, small).unwrap();
    core.claim(taker, token).unwrap();
    assert!(matches!(core.delegate(taker, small), Err(Refusal::NotAllowed { action: Action::Delegate, .. })));
}

#[test]
fn the_longest_lease_is_what_one_gets_and_no_more_can_be_asked_for() {
    let bounds = Bounds { longest_lease: Some(Duration::from_secs(60)), ..NO_BOUNDS };
    let (mut core, session) = core(vec![rule("tenant", 1000, &Action::ALL, bounds)]);
    let lease = core.map(session, request("pool", 1)).unwrap();
    let latest = core.now.after(Duration::from_secs(60));
    assert_eq!(lease.expires_at, Some(latest));
    let refused = core.map(session, request("pool", 1).for_secs(61)).unwrap_err();
    assert!(
        matches!(&refused, Refusal::LeaseTooLong { rule, asked_secs: 61, longest_secs: 60 } if rule == "tenant"),
        "{refused}"
    );
    core.pass(30);
    assert_eq!(
        core.renew(session, lease.id, None).unwrap().expires_at,
        Some(core.now.after(Duration::from_secs(60)))
    );
}

#[test]
fn a_new_policy_revokes_what_it_no_longer_allows_and_shortens_the_rest() {
    let (mut core, session) =
        core(vec![rule("a", 1000, &Action::ALL, NO_BOUNDS), rule("b", 2000, &Action::ALL, NO_BOUNDS)]);
    let other = core.connect(client(2000, 2));
    let [denied, shorter] =
        [core.map(session, request("pool", 1)).unwrap().id, core.map(other, request("pool", 1)).unwrap().id];
    core.answer(|ticket| Input::Register(session, ticket, window("gpu", 1))).unwrap();
    let hour = Bounds { longest_lease: Some(Duration::from_secs(3600)), ..NO_BOUNDS };
    core.step(Input::Configured(policy(vec![rule("b", 2000, &Action::ALL, hour)]), LIMITS));
    let state = core.lease(denied).unwrap().state;
    assert!(matches!(state, LeaseState::Revoked { reason: Revoked::Policy, .. }), "{state:?}");
    let lease = core.lease(shorter).unwrap();
    assert_eq!(
        (lease.state, lease.expires_at),
        (LeaseState::Active {}, Some(core.now.after(Duration::from_secs(3600))))
    );
    assert!(core.broker.regions().all(|region| region.name.as_str() != "gpu"), "its owner may not register");
    // What the new policy doesn't know any more isn't counted by it, and can still be given back.
    assert_eq!(core.broker.usage().iter().count(), 1);
    core.unmap(session, denied).unwrap();
}
