//! One rule: whom and what it is about, and what it allows.

use std::{collections::BTreeSet, fmt, ops::RangeInclusive, str::FromStr, sync::Arc, time::Duration};

use peermem_proto::{ByteLen, Initiator, RegionName};
use thiserror::Error;

use super::{Action, Actor, Globs};

/// A rule's name, unique in its policy: 1 to 64 of `a-z A-Z 0-9 . _ -`, not starting with a dash.
///
/// Refusals and metrics name rules by it, and what users hold is counted by it. Shared, because every lease keeps the
/// names that it is counted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleName(Arc<str>);

/// Why a text isn't a rule's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} can't name a rule: expected 1 to 64 of a-z A-Z 0-9 . _ - and no dash in front")]
pub struct RuleNameError {
    text: String,
}

impl RuleName {
    /// For the names of the built-in rules.
    pub(super) fn built_in(name: &'static str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RuleName {
    type Err = RuleNameError;
    fn from_str(text: &str) -> Result<Self, RuleNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.into()))
        } else {
            Err(RuleNameError { text: text.chars().take(80).collect() })
        }
    }
}

/// A set of users: those with one of the user ids, and those in one of the groups.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Who {
    /// User ids. A single one is a range of one.
    pub uids: Vec<RangeInclusive<u32>>,
    /// Group ids.
    pub gids: BTreeSet<u32>,
}

impl Who {
    fn includes(&self, actor: Actor<'_>) -> bool {
        self.uids.iter().any(|range| range.contains(&actor.uid))
            || actor.gids.iter().any(|gid| self.gids.contains(gid))
    }
}

/// How much each user may hold by one rule, and for how long. `None`: without bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of all of a user's leases together.
    pub bytes_per_user: Option<ByteLen>,
    /// A user's leases.
    pub leases_per_user: Option<u64>,
    /// How long one lease may last.
    pub longest_lease: Option<Duration>,
}

/// A rule. A policy holds only rules with different names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: RuleName,
    /// Whom it is about.
    pub who: Who,
    /// Which regions it is about, by their names.
    pub regions: Globs,
    /// Which initiators it is about, by their text form.
    pub initiators: Globs,
    /// What they may do. Everything else is refused, and no later rule is asked.
    pub allow: BTreeSet<Action>,
    /// How much of it.
    pub bounds: Bounds,
}

impl Rule {
    /// Which of its parts don't fit the question, in the order who, regions, initiators. A part that the question
    /// doesn't have always fits.
    pub(super) fn mismatches(&self, question: &Question<'_>) -> impl Iterator<Item = Part> {
        let misses = |globs: &Globs, text: Option<&str>| text.is_some_and(|text| !globs.matches(text));
        [
            (Part::Who, !self.who.includes(question.actor)),
            (Part::Regions, misses(&self.regions, question.region)),
            (Part::Initiators, misses(&self.initiators, question.initiator.as_deref())),
        ]
        .into_iter()
        .filter_map(|(part, misses)| misses.then_some(part))
    }
}

/// What a rule is held against: at most one initiator, because each is decided by itself.
pub(super) struct Question<'a> {
    actor: Actor<'a>,
    region: Option<&'a str>,
    initiator: Option<String>,
}

impl<'a> Question<'a> {
    pub(super) fn new(
        actor: Actor<'a>,
        region: Option<&'a RegionName>,
        initiator: Option<&Initiator>,
    ) -> Self {
        Self { actor, region: region.map(RegionName::as_str), initiator: initiator.map(Initiator::to_string) }
    }
}

/// A part of a rule that must fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Who,
    Regions,
    Initiators,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Who => "who",
            Self::Regions => "regions",
            Self::Initiators => "initiators",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["a", "tenant-a", "A_1.b", &"x".repeat(64)] {
            assert_eq!(good.parse::<RuleName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "a b", "a:b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<RuleName>().is_err(), "{bad:?} was taken for a name");
        }
    }
}
