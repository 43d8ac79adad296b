//! What the policy says, in the words of the wire.

use std::time::Duration;

use peermem_proto::{Action, ByteLen, Explanation, Initiator, Refusal, RegionName, Sharing, call};

use super::{Broker, Client, Limits, Routes, SessionId, limits::Users, region::RegionState};
use crate::policy::{Actor, Allowed, Denied, Policy, Usage};

impl Client {
    /// As the policy sees it.
    pub(super) fn actor(&self) -> Actor<'_> {
        Actor { uid: self.owner.uid, gids: &self.gids }
    }
}

/// Whether the policy lets `client` do that.
pub(super) fn ask<'p>(
    policy: &'p Policy,
    client: &Client,
    action: Action,
    region: &RegionName,
    initiators: &[Initiator],
) -> Result<Allowed<'p>, Refusal> {
    policy.decide(client.actor(), action, Some(region), initiators).map_err(not_allowed)
}

fn not_allowed(denied: Denied) -> Refusal {
    Refusal::NotAllowed {
        why: denied.to_string(),
        rule: denied.rule().map(ToString::to_string),
        action: denied.action,
        region: denied.region,
    }
}

/// Whether one more lease of `length` is within the limits and the quotas.
pub(super) fn room_for(
    limits: &Limits,
    users: &Users,
    usage: &Usage,
    allowed: &Allowed<'_>,
    length: ByteLen,
) -> Result<(), Refusal> {
    limits.check_lease(allowed.uid(), users.of(allowed.uid()), length)?;
    usage.check(allowed, length).map_err(|over| Refusal::OverQuota {
        rule: over.rule.to_string(),
        what: over.what.key().trim_end_matches("_per_user").to_owned(),
        uid: over.uid,
        held: over.held,
        asked: over.asked,
        limit: over.limit,
    })
}

/// How long a lease will last: what was asked for, or as long as the policy allows.
pub(super) fn lifetime(allowed: &Allowed<'_>, asked_secs: Option<u64>) -> Result<Option<Duration>, Refusal> {
    let longest = allowed.longest_lease();
    let Some(asked_secs) = asked_secs else { return Ok(longest) };
    if asked_secs == 0 {
        return Err(Refusal::BadExtent { why: "a lease of 0 seconds ends before it begins".to_owned() });
    }
    let asked = Duration::from_secs(asked_secs);
    match allowed.rules().iter().find(|rule| rule.bounds.longest_lease.is_some_and(|longest| longest < asked))
    {
        None => Ok(Some(asked)),
        Some(rule) => Err(Refusal::LeaseTooLong {
            rule: rule.name.to_string(),
            asked_secs,
            longest_secs: rule.bounds.longest_lease.unwrap_or_default().as_secs(),
        }),
    }
}

/// Whether the owner of a registered region lets `uid` map it.
pub(super) fn shared_with(region: &RegionState, uid: u32) -> Result<(), Refusal> {
    match region.owner_uid() {
        Some(owner) if region.spec.sharing == Sharing::Owner && uid != owner && uid != 0 => {
            Err(Refusal::NotYours { what: format!("region {}", region.spec.name) })
        }
        _ => Ok(()),
    }
}

impl<R: Routes> Broker<R> {
    /// Which user the client is, if it may watch.
    ///
    /// # Errors
    /// [`Refusal::NotAllowed`].
    pub fn may_watch(&self, session: SessionId) -> Result<u32, Refusal> {
        let client = &self.book.session(session)?.client;
        let allowed = self.policy.decide(client.actor(), Action::Watch, None, &[]).map_err(not_allowed)?;
        Ok(allowed.uid())
    }

    /// What the policy says to a question, and why.
    pub fn explain(&self, question: &call::Explain) -> Explanation {
        let actor = Actor { uid: question.uid, gids: &question.gids };
        self.policy.explain(actor, question.action, question.region.as_ref(), question.initiator.as_ref())
    }
}
