//! What a policy allows or refuses, and how it came to that.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Something that a policy speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Map a region, or claim a lease of it.
    Map,
    /// Register a region.
    Register,
    /// Pass a lease on.
    Delegate,
    /// End somebody else's lease.
    Revoke,
    /// Watch what happens.
    Watch,
    /// Have the descriptor of an initiator that the daemon owns through vfio-pci, and drive it.
    Drive,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Map, Self::Register, Self::Delegate, Self::Revoke, Self::Watch, Self::Drive];

    const fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Register => "register",
            Self::Delegate => "delegate",
            Self::Revoke => "revoke",
            Self::Watch => "watch",
            Self::Drive => "drive",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a text isn't an action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0:?} is no action: expected map, register, delegate, revoke, watch or drive")]
pub struct ActionError(String);

impl FromStr for Action {
    type Err = ActionError;
    fn from_str(text: &str) -> Result<Self, ActionError> {
        let found = Self::ALL.into_iter().find(|action| action.name() == text);
        found.ok_or_else(|| ActionError(text.chars().take(40).collect()))
    }
}

/// What the policy says to a question about at most one initiator, and how it gets there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Yes or no.
    pub allowed: bool,
    /// The verdict in a sentence: by which rule and within what bounds, or what to do about it.
    pub verdict: String,
    /// The rule that decided: the first that matches. Absent where none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// Every rule, in the order in which they are tried.
    pub rules: Vec<Considered>,
}

/// How one rule fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    /// Its name.
    pub rule: String,
    /// Which of its parts don't fit, of `who`, `regions` and `initiators`. None: it matches.
    pub mismatches: Vec<String>,
}
