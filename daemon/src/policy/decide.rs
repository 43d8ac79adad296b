//! The policy, and what it decides.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use peermem_proto::{Initiator, RegionName};
use thiserror::Error;

use super::{Action, Actor, Bounds, Denied, DeniedBy, Globs, Rule, RuleName, Who, rule::Question};

/// The most rules that a policy holds, so that an explanation of all of them fits into a message.
pub const MOST_RULES: usize = 256;

/// The rules, in the order in which they are tried. The first one is always `root`, which can't be configured away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    /// Whether the config has no rule, so that refusals can say what to do about it.
    is_default: bool,
}

/// Why a rule can't be added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    /// Its name is taken.
    #[error("a rule named {0} exists already (`root` is built in): expected a name that no other rule has")]
    NameTaken(RuleName),
    /// There are too many.
    #[error("a policy has at most {MOST_RULES} rules")]
    TooMany,
}

impl Policy {
    /// The built-in rule alone: uid 0 and the user whom the daemon runs as may do everything, and nobody else anything.
    pub fn built_in(daemon_uid: u32) -> Self {
        let root = Rule {
            name: RuleName::built_in("root"),
            who: Who { uids: vec![0..=0, daemon_uid..=daemon_uid], gids: BTreeSet::new() },
            regions: Globs::all(),
            initiators: Globs::all(),
            allow: Action::ALL.into(),
            bounds: Bounds::default(),
        };
        Self { rules: vec![root], is_default: false }
    }

    /// What counts where the config has no rule: the members of [`DEFAULT_GROUP`](super::DEFAULT_GROUP) may do
    /// everything but end the leases of others and drive initiators. `group` is that group's id, or `None` where it doesn't exist, and
    /// nobody is in it then.
    pub fn default_for(daemon_uid: u32, group: Option<u32>) -> Self {
        let mut policy = Self::built_in(daemon_uid);
        policy.is_default = true;
        policy.rules.push(Rule {
            name: RuleName::built_in("default"),
            who: Who { uids: Vec::new(), gids: group.into_iter().collect() },
            regions: Globs::all(),
            initiators: Globs::all(),
            allow: [Action::Map, Action::Register, Action::Delegate, Action::Watch].into(),
            bounds: Bounds::default(),
        });
        policy
    }

    /// Adds a rule after those that are there.
    ///
    /// # Errors
    /// [`RuleError`]: its name is taken, or there are too many.
    pub fn push(&mut self, rule: Rule) -> Result<(), RuleError> {
        if self.rules.iter().any(|other| other.name == rule.name) {
            return Err(RuleError::NameTaken(rule.name));
        }
        if self.rules.len() >= MOST_RULES {
            return Err(RuleError::TooMany);
        }
        self.is_default = false;
        self.rules.push(rule);
        Ok(())
    }

    /// The rules, in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether `actor` may do that with `region` for every one of `initiators`. Without a region or initiators, rules
    /// match by the rest; watching has neither.
    ///
    /// # Errors
    /// [`Denied`], about the first initiator that isn't allowed.
    pub fn decide(
        &self,
        actor: Actor<'_>,
        action: Action,
        region: Option<&RegionName>,
        initiators: &[Initiator],
    ) -> Result<Allowed<'_>, Denied> {
        let none = initiators.is_empty().then_some(None);
        let mut matched = BTreeMap::new();
        for initiator in initiators.iter().map(Some).chain(none) {
            let (place, rule) = self.decide_one(actor, action, region, initiator)?;
            matched.insert(place, rule);
        }
        Ok(Allowed { uid: actor.uid, rules: matched.into_values().collect() })
    }

    /// The first rule that matches and its place, if it allows the action.
    fn decide_one(
        &self,
        actor: Actor<'_>,
        action: Action,
        region: Option<&RegionName>,
        initiator: Option<&Initiator>,
    ) -> Result<(usize, &Rule), Denied> {
        let question = Question::new(actor, region, initiator);
        let mut rules = self.rules.iter().enumerate();
        let by = match rules.find(|(_, rule)| rule.mismatches(&question).next().is_none()) {
            Some(found) if found.1.allow.contains(&action) => return Ok(found),
            Some((_, rule)) => DeniedBy::Rule(rule.name.clone()),
            None if self.is_default => DeniedBy::NotInDefaultGroup,
            None => DeniedBy::NoRule,
        };
        Err(Denied { by, uid: actor.uid, action, region: region.cloned(), initiator: initiator.cloned() })
    }
}

/// A yes: to whom, and the rules that said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowed<'p> {
    uid: u32,
    rules: Vec<&'p Rule>,
}

impl<'p> Allowed<'p> {
    /// To whom.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The rules that decided, each once, in the policy's order. At least one. Their names are what usage is counted by.
    pub fn rules(&self) -> &[&'p Rule] {
        &self.rules
    }

    /// How long the lease may last: the shortest that a rule says, or for ever.
    pub fn longest_lease(&self) -> Option<Duration> {
        self.rules.iter().filter_map(|rule| rule.bounds.longest_lease).min()
    }
}
