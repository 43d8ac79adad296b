//! Who may do what with which region for which initiators, and how much of it. No clock, no I/O.
//!
//! A [`Policy`] is a list of [`Rule`]s, tried in order: the first whose *who*, *regions* and *initiators* match decides,
//! by what it allows. Where none matches, the answer is no. Before all of them stands the built-in rule `root`.
//!
//! A mapping for several initiators is decided for each by itself: every one must be allowed, and the bounds of every
//! rule that allowed one hold. [`Usage`] counts what each user holds by each rule.
//!
//! **Invariant:** one rule decides a question, and every refusal says which. Rules don't add up: there is deliberately no
//! way to see what a user may do other than to find the first rule that matches.

mod decide;
mod denied;
mod explain;
mod glob;
mod rule;
mod usage;

pub use decide::{Allowed, MOST_RULES, Policy, RuleError};
pub use denied::{Denied, DeniedBy};
pub use glob::{Glob, GlobError, Globs};
pub use peermem_proto::Action;
pub use rule::{Bounds, Rule, RuleName, RuleNameError, Who};
pub use usage::{Charge, Held, OverQuota, Quota, Usage};

/// The group that may map when the config says nothing.
pub const DEFAULT_GROUP: &str = "peermem";

/// Who asks, as the kernel vouches for them.
#[derive(Debug, Clone, Copy)]
pub struct Actor<'a> {
    /// The user id.
    pub uid: u32,
    /// Every group id: the primary one and the supplementary ones, in any order.
    pub gids: &'a [u32],
}

#[cfg(test)]
mod tests;
