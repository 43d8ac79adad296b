//! A new config: what it no longer allows is revoked, what it shortens is shortened.

use std::time::Duration;

use peermem_proto::{Action, Event, LeaseId, RegionName, Revoked};

use super::{Broker, Limits, Routes, book::Stage, broker::Effects, grant::initiators_of, permission::ask};
use crate::policy::{Policy, Usage};

/// What a policy makes of a lease that is held.
pub(super) enum Verdict {
    Denied,
    /// Allowed, for that long from now at most.
    Allowed(Option<Duration>),
}

impl<R: Routes> Broker<R> {
    pub(super) fn configure(&mut self, policy: Policy, limits: Limits, out: &mut Effects) {
        self.policy = policy;
        self.limits = limits;
        let regions: Vec<RegionName> = self.book.regions.keys().cloned().collect();
        for name in regions {
            if !self.may_stay_registered(&name) {
                self.drop_region(&name, out);
            }
        }
        self.judge_all(out);
    }

    fn may_stay_registered(&self, name: &RegionName) -> bool {
        let owner = self.book.regions.get(name).and_then(|region| region.owner.as_ref());
        owner.is_none_or(|owner| ask(&self.policy, &owner.client, Action::Register, name, &[]).is_ok())
    }

    /// Holds every lease against the policy as it is now.
    pub(super) fn judge_all(&mut self, out: &mut Effects) {
        self.book.usage = Usage::default();
        let leases: Vec<LeaseId> = self.book.leases().map(|entry| entry.lease.id).collect();
        for id in leases {
            match self.judge(id) {
                Verdict::Denied => self.revoke(id, Revoked::Policy, out),
                Verdict::Allowed(longest) => self.shorten(id, longest, out),
            }
        }
    }

    /// Counts a lease by the rules that allow it now.
    fn judge(&mut self, id: LeaseId) -> Verdict {
        let Some(entry) = self.book.lease(id) else { return Verdict::Denied };
        let (length, initiators) = (entry.lease.length, initiators_of(&entry.lease.paths));
        let allowed = ask(&self.policy, &entry.client, Action::Map, &entry.lease.region, &initiators).ok();
        let charge = allowed.as_ref().map(|allowed| self.book.usage.add(allowed, length));
        if let Some(entry) = self.book.lease_mut(id) {
            entry.charge = charge;
        }
        let Some(allowed) = allowed else { return Verdict::Denied };
        Verdict::Allowed(allowed.longest_lease())
    }

    fn shorten(&mut self, id: LeaseId, longest: Option<Duration>, out: &mut Effects) {
        let (Some(longest), now) = (longest, self.now) else { return };
        let Some(entry) = self.book.lease_mut(id) else { return };
        if let Stage::Carving(_, lifetime) = &mut entry.stage {
            *lifetime = Some(lifetime.map_or(longest, |lifetime| lifetime.min(longest)));
        } else if entry.is_held() && entry.lease.expires_at.is_none_or(|at| now.after(longest) < at) {
            self.set_expiry(id, Some(now.after(longest)));
            self.record_lease(id, out);
            self.announce(id, |lease| Event::LeaseRenewed { lease }, out);
        }
    }
}
