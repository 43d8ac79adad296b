//! What the policy says, case by case.

use std::time::Duration;

use peermem_proto::{ByteLen, Initiator, RegionName};

use super::*;

mod properties;

const DAEMON: u32 = 900;

fn globs(patterns: &[&str]) -> Globs {
    patterns.iter().map(|pattern| pattern.parse::<Glob>().unwrap()).collect()
}

/// A rule for everyone.
fn rule(name: &str, allow: &[Action]) -> Rule {
    Rule {
        name: name.parse().unwrap(),
        who: Who { uids: vec![0..=u32::MAX], gids: [].into() },
        regions: Globs::all(),
        initiators: Globs::all(),
        allow: allow.iter().copied().collect(),
        bounds: Bounds::default(),
    }
}

fn policy(rules: impl IntoIterator<Item = Rule>) -> Policy {
    let mut policy = Policy::built_in(DAEMON);
    rules.into_iter().for_each(|rule| policy.push(rule).unwrap());
    policy
}

fn user(uid: u32) -> Actor<'static> {
    Actor { uid, gids: &[] }
}

fn region(name: &str) -> RegionName {
    name.parse().unwrap()
}

fn initiators(names: &[&str]) -> Vec<Initiator> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn names(allowed: &Allowed<'_>) -> Vec<String> {
    allowed.rules().iter().map(|rule| rule.name.to_string()).collect()
}

#[test]
fn root_and_the_daemons_user_may_do_everything_whatever_the_rules_say() {
    let policy = policy([rule("nobody", &[])]);
    for action in Action::ALL {
        for uid in [0, DAEMON] {
            let decided = policy.decide(user(uid), action, Some(&region("a")), &initiators(&["rdma:x"]));
            assert_eq!(names(&decided.unwrap()), ["root"]);
        }
        assert!(policy.decide(user(1), action, None, &[]).is_err());
    }
}

#[test]
fn by_default_the_group_may_end_no_leases_of_others_and_drive_no_device() {
    let default = Policy::default_for(DAEMON, Some(10));
    for action in Action::ALL {
        let member = default.decide(Actor { uid: 1, gids: &[5, 10] }, action, None, &[]);
        assert_eq!(member.is_ok(), ![Action::Revoke, Action::Drive].contains(&action), "{action}");
        let stranger = default.decide(Actor { uid: 1, gids: &[5] }, action, None, &[]).unwrap_err();
        assert!(stranger.to_string().contains("usermod --append --groups peermem USER"), "{stranger}");
    }
    let without_group = Policy::default_for(DAEMON, None);
    let denied = without_group.decide(Actor { uid: 1, gids: &[10] }, Action::Map, None, &[]).unwrap_err();
    assert_eq!(denied.by, DeniedBy::NotInDefaultGroup);
}

#[test]
fn watching_is_decided_by_who_alone() {
    let watcher =
        Rule { regions: globs(&["gpu0"]), initiators: globs(&["rdma:x"]), ..rule("few", &[Action::Watch]) };
    let policy = policy([watcher]);
    assert_eq!(names(&policy.decide(user(1), Action::Watch, None, &[]).unwrap()), ["few"]);
}

#[test]
fn a_refusal_names_the_rule_and_the_initiator() {
    let policy = policy([
        Rule { initiators: globs(&["rdma:*"]), ..rule("nics", &[Action::Map]) },
        Rule { initiators: globs(&["pci:0000:01:*"]), ..rule("drives", &[Action::Watch]) },
    ]);
    let refusal = |initiator: &str| {
        let both = initiators(&["rdma:x", initiator]);
        policy.decide(user(7), Action::Map, Some(&region("gpu0")), &both).unwrap_err().to_string()
    };
    assert_eq!(
        refusal("pci:0000:01:00.0"),
        "user 7 may not map region gpu0 for pci:0000:01:00.0: rule drives, the first that matches, doesn't allow it. Add \
         \"map\" to its `allow` in the daemon's config, or a rule before it"
    );
    assert_eq!(
        refusal("emulated"),
        "user 7 may not map region gpu0 for emulated: no rule matches. Add one, or widen one, under `[[policy.rule]]` in \
         the daemon's config"
    );
}

#[test]
fn the_bounds_of_every_rule_that_allowed_it_hold() {
    let bounded = |name, initiator, gib: u64, secs| Rule {
        initiators: globs(&[initiator]),
        bounds: Bounds {
            bytes_per_user: Some(ByteLen::new(gib << 30)),
            leases_per_user: None,
            longest_lease: Some(Duration::from_secs(secs)),
        },
        ..rule(name, &[Action::Map])
    };
    let policy = policy([bounded("nics", "rdma:*", 8, 60), bounded("drives", "pci:*", 2, 600)]);
    let both = initiators(&["pci:0000:01:00.0", "rdma:x"]);
    let allowed = policy.decide(user(7), Action::Map, Some(&region("a")), &both).unwrap();
    assert_eq!(names(&allowed), ["nics", "drives"]);
    assert_eq!(allowed.longest_lease(), Some(Duration::from_secs(60)));

    let mut usage = Usage::default();
    let charge = usage.add(&allowed, ByteLen::new(1 << 30));
    assert_eq!(usage.check(&allowed, ByteLen::new(1 << 30)), Ok(()));
    let over = usage.check(&allowed, ByteLen::new(2 << 30)).unwrap_err();
    assert_eq!(
        over.to_string(),
        "rule drives lets a user hold 2GiB, user 7 holds 1GiB and asked for 2GiB: give some back, or raise the rule's \
         `bytes_per_user` in the daemon's config"
    );
    usage.remove(charge);
    assert_eq!(usage, Usage::default());
}

#[test]
fn sums_beyond_64_bits_neither_wrap_nor_stop() {
    let bounds = Bounds { bytes_per_user: Some(ByteLen::new(u64::MAX)), ..Bounds::default() };
    let policy = policy([Rule { bounds, ..rule("a", &[Action::Map]) }]);
    let allowed = policy.decide(user(1), Action::Map, None, &[]).unwrap();
    let most = ByteLen::new(u64::MAX);
    let mut usage = Usage::default();
    let charges = [usage.add(&allowed, most), usage.add(&allowed, most)];
    assert_eq!(usage.check(&allowed, ByteLen::new(1)).unwrap_err().held, u64::MAX);
    charges.into_iter().for_each(|charge| usage.remove(charge));
    assert_eq!(usage.check(&allowed, most), Ok(()));
}

#[test]
fn the_longest_explanation_fits_into_a_message() {
    let mut policy = Policy::built_in(DAEMON);
    let longest = |number| Rule { who: Who::default(), ..rule(&format!("{number:x>64}"), &[]) };
    (1..MOST_RULES).for_each(|number| {
        let misfit = Rule { regions: globs(&["x"]), initiators: globs(&["rdma:x"]), ..longest(number) };
        policy.push(misfit).unwrap();
    });
    assert_eq!(policy.push(longest(0)), Err(RuleError::TooMany));
    let region = region(&"r".repeat(64));
    let explained =
        policy.explain(user(u32::MAX), Action::Register, Some(&region), initiators(&["emulated"]).first());
    assert!(
        explained
            .rules
            .iter()
            .all(|rule| rule.mismatches == ["who", "regions", "initiators"] || rule.rule == "root")
    );
    // The envelope takes some.
    assert!(serde_json::to_vec(&explained).unwrap().len() < peermem_wire::MAX_MESSAGE - 1024);
}

#[test]
fn an_explanation_says_which_part_does_not_fit() {
    let policy = policy([
        Rule { regions: globs(&["gpu*"]), ..rule("gpus", &[Action::Map]) },
        Rule {
            bounds: Bounds {
                leases_per_user: Some(3),
                longest_lease: Some(Duration::from_secs(60)),
                ..Bounds::default()
            },
            ..rule("rest", &[Action::Map])
        },
    ]);
    let explained = policy.explain(user(7), Action::Map, Some(&region("cmb")), None);
    assert_eq!(
        serde_json::to_value(&explained).unwrap(),
        serde_json::json!({
            "allowed": true,
            "verdict": "rule rest allows it, up to 3 leases a user, 60s a lease",
            "decided_by": "rest",
            "rules": [
                { "rule": "root", "mismatches": ["who"] },
                { "rule": "gpus", "mismatches": ["regions"] },
                { "rule": "rest", "mismatches": [] },
            ],
        })
    );
}
