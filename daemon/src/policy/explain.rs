//! Why the policy says what it says.

use peermem_proto::{Considered, Explanation, Initiator, RegionName};

use super::{Action, Actor, Allowed, Policy, Rule, rule::Question};

impl Policy {
    /// Why [`Self::decide`] says what it says. A mapping for several initiators is decided for each by itself, so each
    /// has an explanation of its own.
    pub fn explain(
        &self,
        actor: Actor<'_>,
        action: Action,
        region: Option<&RegionName>,
        initiator: Option<&Initiator>,
    ) -> Explanation {
        let question = Question::new(actor, region, initiator);
        let rules: Vec<_> = self
            .rules()
            .iter()
            .map(|rule| Considered {
                rule: rule.name.to_string(),
                mismatches: rule.mismatches(&question).map(|part| part.to_string()).collect(),
            })
            .collect();
        let decided_by = rules.iter().find(|rule| rule.mismatches.is_empty()).map(|rule| rule.rule.clone());
        let decision = self.decide(actor, action, region, initiator.map_or(&[], std::slice::from_ref));
        let allowed = decision.is_ok();
        let verdict = decision.map_or_else(|denied| denied.to_string(), |allowed| within(&allowed));
        Explanation { allowed, verdict, decided_by, rules }
    }
}

/// `rule tenant-a allows it: each user up to 8GiB, up to 128 leases, a lease up to 3600s`.
fn within(allowed: &Allowed<'_>) -> String {
    let bounds = |rule: &Rule| {
        let bytes = rule.bounds.bytes_per_user.map(|most| format!("{most} a user"));
        let leases = rule.bounds.leases_per_user.map(|most| format!("{most} leases a user"));
        let longest = rule.bounds.longest_lease.map(|longest| format!("{}s a lease", longest.as_secs()));
        let bounds: Vec<_> = [bytes, leases, longest].into_iter().flatten().collect();
        if bounds.is_empty() { "without bounds".to_owned() } else { format!("up to {}", bounds.join(", ")) }
    };
    let rules: Vec<_> = allowed
        .rules()
        .iter()
        .map(|rule| format!("rule {} allows it, {}", rule.name, bounds(rule)))
        .collect();
    rules.join("; ")
}
