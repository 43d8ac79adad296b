//! The policy against an interpreter that follows its description word by word.

use std::{collections::BTreeMap, time::Duration};

use peermem_proto::{ByteLen, Initiator, RegionName};
use proptest::prelude::*;

use super::*;

/// Small worlds: few enough of everything that rules and questions meet.
#[derive(Debug, Clone)]
struct Asked {
    uid: u32,
    gids: Vec<u32>,
    action: Action,
    region: Option<RegionName>,
    initiators: Vec<Initiator>,
}

impl Asked {
    fn of<'p>(&self, policy: &'p Policy) -> Result<Allowed<'p>, Denied> {
        let actor = Actor { uid: self.uid, gids: &self.gids };
        policy.decide(actor, self.action, self.region.as_ref(), &self.initiators)
    }

    /// What is decided by itself: each initiator, or the question without one.
    fn each_initiator(&self) -> Vec<Option<&Initiator>> {
        if self.initiators.is_empty() { vec![None] } else { self.initiators.iter().map(Some).collect() }
    }
}

fn some<T: Clone + std::fmt::Debug + 'static>(
    of: &'static [T],
    least: usize,
) -> impl Strategy<Value = Vec<T>> {
    prop::sample::subsequence(of, least..=of.len())
}

fn asked() -> impl Strategy<Value = Asked> {
    (
        prop_oneof![1 => Just(0), 1 => Just(DAEMON), 8 => 1u32..6],
        some(&[10u32, 11], 0),
        prop::sample::select(&Action::ALL[..]),
        prop::option::weighted(0.9, prop::sample::select(&["a", "ab", "b"][..]).prop_map(region)),
        some(&["rdma:x0", "rdma:x1", "pci:0000:01:00.0"], 0).prop_map(|names| initiators(&names)),
    )
        .prop_map(|(uid, gids, action, region, initiators)| Asked {
            uid,
            gids,
            action,
            region,
            initiators,
        })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let bounds = (prop::option::of(1u64..40), prop::option::of(1u64..4), prop::option::of(1u64..9)).prop_map(
        |(bytes, leases, secs)| Bounds {
            bytes_per_user: bytes.map(ByteLen::new),
            leases_per_user: leases,
            longest_lease: secs.map(Duration::from_secs),
        },
    );
    let rule = (
        prop::option::of((1u32..4, 0u32..3)),
        some(&[10u32, 11], 0),
        some(&["a", "a*", "?", "*"], 1),
        some(&["rdma:*", "rdma:x?", "pci:*", "*"], 1),
        some(&Action::ALL, 0),
        bounds,
    );
    prop::collection::vec(rule, 0..6).prop_map(|rules| {
        let made = rules.into_iter().enumerate().map(
            |(number, (uids, gids, regions, initiators, allow, bounds))| Rule {
                who: Who {
                    uids: uids.map(|(first, more)| first..=first + more).into_iter().collect(),
                    gids: gids.into_iter().collect(),
                },
                regions: globs(&regions),
                initiators: globs(&initiators),
                bounds,
                ..self::rule(&format!("rule{number}"), &allow)
            },
        );
        made.collect()
    })
}

/// Whether a rule is about the question, as its documentation has it.
fn is_about(rule: &Rule, asked: &Asked, initiator: Option<&Initiator>) -> bool {
    let by_uid = rule.who.uids.iter().any(|range| range.clone().any(|uid| uid == asked.uid));
    let by_gid = rule.who.gids.intersection(&asked.gids.iter().copied().collect()).next().is_some();
    (by_uid || by_gid)
        && asked.region.as_ref().is_none_or(|region| rule.regions.matches(region.as_str()))
        && initiator.is_none_or(|initiator| rule.initiators.matches(&initiator.to_string()))
}

/// The names of the rules that allow it, or the first initiator that isn't allowed and the rule that says so.
type Naive = Result<Vec<String>, (Option<Initiator>, Option<String>)>;

fn naive(rules: &[Rule], asked: &Asked) -> Naive {
    if asked.uid == 0 || asked.uid == DAEMON {
        return Ok(vec!["root".to_owned()]);
    }
    let mut allowing = Vec::new();
    for initiator in asked.each_initiator() {
        match rules.iter().find(|rule| is_about(rule, asked, initiator)) {
            Some(rule) if rule.allow.contains(&asked.action) => allowing.push(rule.name.to_string()),
            Some(rule) => return Err((initiator.cloned(), Some(rule.name.to_string()))),
            None => return Err((initiator.cloned(), None)),
        }
    }
    let names = rules.iter().map(|rule| rule.name.to_string());
    Ok(names.filter(|name| allowing.contains(name)).collect())
}

fn as_naive(decision: Result<Allowed<'_>, Denied>) -> Naive {
    decision
        .map(|allowed| names(&allowed))
        .map_err(|denied| (denied.initiator.clone(), denied.rule().map(ToString::to_string)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_first_match_decides_for_each_initiator(rules in rules(), asked in asked()) {
        prop_assert_eq!(as_naive(asked.of(&policy(rules.clone()))), naive(&rules, &asked));
    }

    #[test]
    fn rules_that_do_not_match_change_nothing(rules in rules(), asked in asked()) {
        let matching = rules.iter().filter(|rule| {
            asked.each_initiator().into_iter().any(|initiator| is_about(rule, &asked, initiator))
        });
        prop_assert_eq!(
            as_naive(asked.of(&policy(matching.cloned()))),
            as_naive(asked.of(&policy(rules.clone())))
        );
    }

    #[test]
    fn an_explanation_says_what_the_decision_says(rules in rules(), mut asked in asked()) {
        asked.initiators.truncate(1);
        let policy = policy(rules);
        let actor = Actor { uid: asked.uid, gids: &asked.gids };
        let explained = policy.explain(actor, asked.action, asked.region.as_ref(), asked.initiators.first());
        prop_assert_eq!(explained.rules.len(), policy.rules().len());
        match asked.of(&policy) {
            Ok(allowed) => {
                prop_assert!(explained.allowed);
                prop_assert_eq!(explained.decided_by, names(&allowed).pop());
            }
            Err(denied) => {
                prop_assert!(!explained.allowed);
                prop_assert_eq!(explained.decided_by, denied.rule().map(ToString::to_string));
                prop_assert_eq!(explained.verdict, denied.to_string());
            }
        }
    }

    /// Leases come, if they keep within the bounds, and go; what is counted is what lives, and a new count of it agrees.
    #[test]
    fn what_is_counted_is_what_lives(
        rules in rules(),
        steps in prop::collection::vec((asked(), 1u64..30, any::<prop::sample::Index>(), any::<bool>()), 0..40),
    ) {
        let policy = policy(rules);
        let mut usage = Usage::default();
        let mut live: Vec<(Asked, u64, Charge)> = Vec::new();
        for (asked, bytes, which, ends) in steps {
            if ends && !live.is_empty() {
                usage.remove(live.swap_remove(which.index(live.len())).2);
            } else if let Ok(allowed) = asked.of(&policy) {
                let fits = allowed.rules().iter().all(|rule| {
                    let held: Vec<u64> = live.iter().filter(|(other, ..)| other.uid == asked.uid)
                        .filter(|(other, ..)| other.of(&policy).unwrap().rules().contains(rule))
                        .map(|(_, bytes, _)| *bytes).collect();
                    let total = held.iter().sum::<u64>() + bytes;
                    rule.bounds.leases_per_user.is_none_or(|most| (held.len() as u64) < most)
                        && rule.bounds.bytes_per_user.is_none_or(|most| total <= most.get())
                });
                prop_assert_eq!(usage.check(&allowed, ByteLen::new(bytes)).is_ok(), fits);
                if fits {
                    let charge = usage.add(&allowed, ByteLen::new(bytes));
                    live.push((asked, bytes, charge));
                }
            }
            let mut sums = BTreeMap::<(String, u32), Held>::new();
            let mut again = Usage::default();
            for (asked, bytes, _) in &live {
                let allowed = asked.of(&policy).unwrap();
                let _charge = again.add(&allowed, ByteLen::new(*bytes));
                for name in names(&allowed) {
                    let held = sums.entry((name, asked.uid)).or_default();
                    held.leases += 1;
                    held.bytes += u128::from(*bytes);
                }
            }
            prop_assert_eq!(&usage, &again);
            let counted = usage.iter().map(|(rule, uid, held)| ((rule.to_string(), uid), held));
            prop_assert_eq!(counted.collect::<BTreeMap<_, _>>(), sums);
        }
    }
}
