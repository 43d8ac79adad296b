//! What effects and events change in the model.

use super::*;

impl World {
    pub(super) fn absorb_one(&mut self, effect: Effect) {
        match effect {
            Effect::Carve { .. } => panic!("carving outside of a map"),
            Effect::Release { lease, .. } => {
                assert!(self.held.remove(&lease), "{lease} was released and not held");
            }
            Effect::TakeBack(device) => {
                self.seen.insert("taken back");
                let is_of = |lease: &Lease| self.regions[&lease.region].device == Some(device);
                assert!(!self.leases.values().any(is_of), "{device} is taken back, but leases of it aren't");
            }
            Effect::Close(region) => {
                assert!(self.regions.contains_key(&region), "{region} was closed twice");
                self.offered.remove(&region);
            }
            Effect::Forget(token) => {
                self.seen.insert("token expired");
                assert!(self.tokens.remove(&token).is_some(), "memory was forgotten twice");
            }
            Effect::Record(record) => self.journal.add(record),
            Effect::Answer(ticket, answer) => {
                assert!(self.waiting.remove(&ticket), "{ticket:?} was answered twice");
                if let Ok(Answer::Granted(lease)) = answer {
                    assert_eq!(self.leases.get(&lease.id), Some(&lease), "granted before it was announced");
                    assert_eq!(self.journal.leases[&lease.id].lease, lease, "granted before it was recorded");
                }
            }
            Effect::Announce(event) => self.hear(event),
        }
    }

    pub(super) fn hear(&mut self, event: Event) {
        self.seen.insert(match &event {
            Event::RegionAdded { .. } => "region added",
            Event::RegionGone { .. } => "region gone",
            Event::LeaseGranted { .. } => "granted",
            Event::LeaseRenewed { .. } => "renewed",
            Event::LeaseDelegated { .. } => "delegated",
            Event::LeaseRevoked { lease } => match lease.state {
                LeaseState::Revoked { reason: Revoked::Expired, .. } => "expired",
                LeaseState::Revoked { reason: Revoked::Policy, .. } => "revoked by a policy",
                LeaseState::Revoked { reason: Revoked::RegionOwner, .. } => "revoked by the region's owner",
                _ => "revoked",
            },
            Event::LeaseOverdue { .. } => "overdue",
            Event::LeaseResumed { .. } => "resumed",
            Event::LeaseEnded { reason: LeaseEnd::NotResumed, .. } => "not resumed",
            Event::LeaseEnded { reason: LeaseEnd::RegionGone, .. } => "ended with its region",
            Event::LeaseEnded { reason: LeaseEnd::Revoked, .. } => "ended after a revocation",
            Event::LeaseEnded { reason: LeaseEnd::NeighbourRevoked, .. } => "ended with a neighbour",
            Event::LeaseEnded { reason: LeaseEnd::InitiatorGone, .. } => "ended with its initiator",
            Event::LeaseEnded { .. } => "ended",
            Event::Refused { .. } | Event::RefusalsLeftOut { .. } => "refused",
        });
        match event {
            Event::RegionAdded { region } => {
                assert!(self.regions.insert(region.name.clone(), region).is_none());
            }
            Event::RegionGone { name } => {
                assert!(self.regions.remove(&name).is_some());
                assert!(self.leases.values().all(|lease| lease.region != name), "leases outlived {name}");
            }
            Event::LeaseGranted { lease } => {
                assert!(self.held.contains(&lease.id));
                assert!(self.leases.insert(lease.id, lease).is_none());
            }
            Event::LeaseRenewed { lease }
            | Event::LeaseDelegated { lease, .. }
            | Event::LeaseRevoked { lease }
            | Event::LeaseOverdue { lease }
            | Event::LeaseResumed { lease } => {
                assert!(self.leases.insert(lease.id, lease).is_some(), "news of a lease that isn't");
            }
            Event::LeaseEnded { lease, .. } => {
                assert_eq!(self.leases.remove(&lease.id), Some(lease));
            }
            Event::Refused { .. } | Event::RefusalsLeftOut { .. } => panic!("the core announces no refusals"),
        }
    }
}
