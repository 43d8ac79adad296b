//! What users hold by which rule, held against the rules' bounds.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use peermem_proto::ByteLen;
use thiserror::Error;

use super::{Allowed, RuleName};

/// What each user holds by each rule.
///
/// A lease is counted in full by every rule that allowed it. After the rules have changed, start from an empty one and
/// add every lease that lives: they may then hold more than the new bounds, and get nothing more until they don't.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(BTreeMap<(RuleName, u32), Held>);

/// What one user holds by one rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Leases.
    pub leases: u64,
    /// Their bytes. Wide enough for any number of the longest leases.
    pub bytes: u128,
}

/// What a lease was counted as; it goes back to [`Usage::remove`] when the lease ends.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "without it, what was counted stays counted"]
pub struct Charge {
    uid: u32,
    rules: Vec<RuleName>,
    bytes: ByteLen,
}

/// What a rule bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// Bytes of a user's leases.
    Bytes,
    /// A user's leases.
    Leases,
}

impl Quota {
    /// The key in the rule.
    pub fn key(self) -> &'static str {
        match self {
            Self::Bytes => "bytes_per_user",
            Self::Leases => "leases_per_user",
        }
    }

    fn show(self, amount: u64) -> String {
        match self {
            Self::Bytes => ByteLen::new(amount).to_string(),
            Self::Leases if amount == 1 => "1 lease".to_owned(),
            Self::Leases => format!("{amount} leases"),
        }
    }
}

/// A bound of a rule that one more lease would exceed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct OverQuota {
    /// The rule.
    pub rule: RuleName,
    /// Whose.
    pub uid: u32,
    /// Which bound; the numbers are bytes or leases accordingly.
    pub what: Quota,
    /// What the user holds by that rule; 2^64 - 1 where it is more.
    pub held: u64,
    /// What was asked for.
    pub asked: u64,
    /// The bound.
    pub limit: u64,
}

impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, uid, what, .. } = self;
        let [held, asked, limit] = [self.held, self.asked, self.limit].map(|amount| what.show(amount));
        write!(
            f,
            "rule {rule} lets a user hold {limit}, user {uid} holds {held} and asked for {asked}: give some back, or raise \
             the rule's `{}` in the daemon's config",
            what.key()
        )
    }
}

impl Usage {
    /// Whether one more lease of that size keeps within the bounds of every rule that allowed it.
    ///
    /// # Errors
    /// [`OverQuota`], about the first bound that it would exceed.
    pub fn check(&self, allowed: &Allowed<'_>, bytes: ByteLen) -> Result<(), OverQuota> {
        let uid = allowed.uid();
        for rule in allowed.rules() {
            let held = self.held(&rule.name, uid);
            let bounds = [
                (Quota::Leases, u128::from(held.leases), 1, rule.bounds.leases_per_user),
                (Quota::Bytes, held.bytes, bytes.get(), rule.bounds.bytes_per_user.map(ByteLen::get)),
            ];
            for (what, held, asked, limit) in bounds {
                if let Some(limit) = limit
                    && held.saturating_add(u128::from(asked)) > u128::from(limit)
                {
                    let held = u64::try_from(held).unwrap_or(u64::MAX);
                    return Err(OverQuota { rule: rule.name.clone(), uid, what, held, asked, limit });
                }
            }
        }
        Ok(())
    }

    /// Counts a lease, whether it keeps within the bounds or not.
    pub fn add(&mut self, allowed: &Allowed<'_>, bytes: ByteLen) -> Charge {
        let uid = allowed.uid();
        let rules: Vec<_> = allowed.rules().iter().map(|rule| rule.name.clone()).collect();
        for rule in &rules {
            let held = self.0.entry((rule.clone(), uid)).or_default();
            held.leases += 1;
            held.bytes += u128::from(bytes.get());
        }
        Charge { uid, rules, bytes }
    }

    /// Counts a lease no longer. The charge must come from this `Usage`: after a new count, the old charges are void.
    pub fn remove(&mut self, charge: Charge) {
        for rule in charge.rules {
            let Entry::Occupied(mut entry) = self.0.entry((rule, charge.uid)) else { continue };
            let held = entry.get_mut();
            held.leases = held.leases.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(u128::from(charge.bytes.get()));
            if held.leases == 0 {
                entry.remove();
            }
        }
    }

    /// What a user holds by a rule.
    pub fn held(&self, rule: &RuleName, uid: u32) -> Held {
        self.0.get(&(rule.clone(), uid)).copied().unwrap_or_default()
    }

    /// Everyone who holds something, by rule and user id.
    pub fn iter(&self) -> impl Iterator<Item = (&RuleName, u32, Held)> {
        self.0.iter().map(|((rule, uid), held)| (rule, *uid, *held))
    }
}
