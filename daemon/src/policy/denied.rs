//! A no, in a sentence that an operator can act on.

use std::{error::Error, fmt};

use peermem_proto::{Initiator, RegionName};

use super::{Action, DEFAULT_GROUP, RuleName};

/// A no: to what, and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// What decided.
    pub by: DeniedBy,
    /// Who asked.
    pub uid: u32,
    /// To do what.
    pub action: Action,
    /// With which region, if it was about one.
    pub region: Option<RegionName>,
    /// For which initiator, if it was about one.
    pub initiator: Option<Initiator>,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeniedBy {
    /// The first rule that matched doesn't allow it.
    Rule(RuleName),
    /// No rule of the config matched.
    NoRule,
    /// The config has no rule, and the user isn't in the group that may map then.
    NotInDefaultGroup,
}

impl Denied {
    /// The rule that said no; `None` where none matched.
    pub fn rule(&self) -> Option<&RuleName> {
        match &self.by {
            DeniedBy::Rule(name) => Some(name),
            DeniedBy::NoRule | DeniedBy::NotInDefaultGroup => None,
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {} may not {}", self.uid, self.action)?;
        if let Some(region) = &self.region {
            write!(f, " region {region}")?;
        }
        if let Some(initiator) = &self.initiator {
            write!(f, " for {initiator}")?;
        }
        match &self.by {
            DeniedBy::Rule(rule) => write!(
                f,
                ": rule {rule}, the first that matches, doesn't allow it. Add {:?} to its `allow` in the daemon's config, \
                 or a rule before it",
                self.action.to_string()
            ),
            DeniedBy::NoRule => f.write_str(
                ": no rule matches. Add one, or widen one, under `[[policy.rule]]` in the daemon's config",
            ),
            DeniedBy::NotInDefaultGroup => write!(
                f,
                ": the daemon's config has no rule, so only members of group {DEFAULT_GROUP} may. Add the user to it \
                 (`usermod --append --groups {DEFAULT_GROUP} USER`, counted from the next login on), or write a \
                 `[[policy.rule]]`"
            ),
        }
    }
}

impl Error for Denied {}
