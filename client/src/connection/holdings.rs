//! What a client has through its connection, and comes back for after a restart of the daemon.

use std::{
    collections::{BTreeMap, btree_map},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use peermem_proto::{
    Event, Lease, LeaseId, Owner, RegionName,
    call::{MOST_RESUMED, Resume, ResumeReply},
};

use super::{
    CallFailed,
    standing::{Fall, Standing},
};

/// Something that hangs on a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// A lease.
    Lease(LeaseId),
    /// A registered region.
    Region(RegionName),
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(id) => write!(f, "lease {id}"),
            Self::Region(name) => write!(f, "region {name}"),
        }
    }
}

/// Everything that is to be resumed.
#[derive(Debug)]
pub(super) struct Holdings(Mutex<Held>);

#[derive(Debug)]
struct Held {
    /// The daemon's table of leases that the numbers are from.
    instance: String,
    /// Who the daemon takes this process for, which may be another number than it has for itself; told with every grant.
    me: Option<Owner>,
    things: BTreeMap<Holding, Place>,
}

#[derive(Debug)]
struct Place {
    standing: Arc<Standing>,
    /// It has been passed on to this client, and not granted.
    claimed: bool,
}

impl Holdings {
    /// Nothing yet, from the table named `instance`.
    pub(super) fn new(instance: String) -> Self {
        Self(Mutex::new(Held { instance, me: None, things: BTreeMap::new() }))
    }

    /// Adds something that the daemon has just granted. It stays as long as the result, unless it is lost before.
    pub(super) fn keep(self: &Arc<Self>, what: Holding) -> Kept {
        self.put(what, false)
    }

    /// The same for a lease, which may have been `claimed`.
    pub(super) fn keep_lease(self: &Arc<Self>, lease: &Lease, claimed: bool) -> Kept {
        self.lock().me = Some(lease.owner);
        self.put(Holding::Lease(lease.id), claimed)
    }

    fn put(self: &Arc<Self>, what: Holding, claimed: bool) -> Kept {
        let standing = Arc::<Standing>::default();
        let place = Place { standing: Arc::clone(&standing), claimed };
        let before = self.lock().things.insert(what.clone(), place);
        // A lease that this very client has claimed: whoever gave it has it no longer.
        if let Some(Place { standing, .. }) = before {
            standing.fall(Fall::Lost);
        }
        Kept { what, standing, among: Arc::clone(self) }
    }

    /// The daemon's table is named `instance` now. Nothing is in another one than it was granted in.
    pub(super) fn move_to(&self, instance: String) {
        let mut held = self.lock();
        if held.instance != instance {
            held.instance = instance;
            let gone = std::mem::take(&mut held.things);
            drop(held);
            gone.into_values().for_each(|place| place.standing.fall(Fall::Lost));
        }
    }

    /// The calls that resume all of it.
    pub(super) fn resumptions(&self) -> Vec<Resume> {
        let held = self.lock();
        let (mut leases, mut regions) = (Vec::new(), Vec::new());
        for what in held.things.keys() {
            match what {
                Holding::Lease(id) => leases.push(*id),
                Holding::Region(name) => regions.push(name.clone()),
            }
        }
        let (mut leases, mut regions) = (leases.chunks(MOST_RESUMED), regions.chunks(MOST_RESUMED));
        let batches = std::iter::from_fn(|| match (leases.next(), regions.next()) {
            (None, None) => None,
            (leases, regions) => Some(Resume {
                instance: held.instance.clone(),
                leases: leases.unwrap_or_default().to_vec(),
                regions: regions.unwrap_or_default().to_vec(),
            }),
        });
        batches.collect()
    }

    /// Takes out what the daemon doesn't know any more.
    pub(super) fn lose(&self, reply: ResumeReply) {
        let leases = reply.lost_leases.into_iter().map(Holding::Lease);
        let regions = reply.lost_regions.into_iter().map(Holding::Region);
        leases.chain(regions).for_each(|what| self.lose_one(&what));
    }

    /// Takes out everything.
    pub(super) fn lose_all(&self) {
        let gone = std::mem::take(&mut self.lock().things);
        gone.into_values().for_each(|place| place.standing.fall(Fall::Lost));
    }

    /// Learns from an event of the table named `instance`; what is said of another table's leases is about none of these.
    pub(super) fn heed(&self, instance: &str, event: &Event) {
        let mut held = self.lock();
        let (lease, fall) = match event {
            Event::LeaseRevoked { lease } | Event::LeaseOverdue { lease } => (lease, Fall::Revoked),
            Event::LeaseEnded { lease, .. } => (lease, Fall::Lost),
            // Where this client is who has claimed it, the new holding has taken the old one's place already. Another of the same
            // process may have, which the daemon tells by the same owner.
            Event::LeaseDelegated { lease, .. } if !held.has_claimed(lease) => (lease, Fall::Lost),
            _ => return,
        };
        let what = Holding::Lease(lease.id);
        let standing = match fall {
            _ if held.instance != instance => None,
            Fall::Lost => held.things.remove(&what).map(|place| place.standing),
            Fall::Revoked | Fall::GivenBack => {
                held.things.get(&what).map(|place| Arc::clone(&place.standing))
            }
        };
        // What depends on it lets go outside the lock.
        drop(held);
        if let Some(standing) = standing {
            standing.fall(fall);
        }
    }

    fn lose_one(&self, what: &Holding) {
        // A statement of its own, so that what depends on it lets go outside the lock.
        let gone = self.lock().things.remove(what);
        if let Some(place) = gone {
            place.standing.fall(Fall::Lost);
        }
    }

    /// No step of a change panics, so the lock's poison adds nothing.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn has_claimed(&self, lease: &Lease) -> bool {
        let is_claimed = |place: &Place| place.claimed;
        self.me == Some(lease.owner) && self.things.get(&Holding::Lease(lease.id)).is_some_and(is_claimed)
    }
}

/// One thing's place among what is resumed, given up when this is dropped.
// Public for the sealed trait that speaks of it; nobody outside can name it.
#[allow(unreachable_pub)]
#[derive(Debug)]
pub struct Kept {
    what: Holding,
    standing: Arc<Standing>,
    among: Arc<Holdings>,
}

impl Kept {
    pub(crate) fn is_lost(&self) -> bool {
        self.standing.is_lost()
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// The daemon has said that it doesn't have it, or that somebody else does.
    pub(super) fn lose(&self) {
        self.standing.fall(Fall::Lost);
        self.leave();
    }

    /// # Errors
    /// [`CallFailed::HoldingLost`].
    pub(super) fn check(&self) -> Result<(), CallFailed> {
        if self.is_lost() { Err(CallFailed::HoldingLost(self.what.clone())) } else { Ok(()) }
    }

    /// Another table of leases may have used the same number again: only this one's entry goes.
    fn leave(&self) {
        if let btree_map::Entry::Occupied(entry) = self.among.lock().things.entry(self.what.clone())
            && Arc::ptr_eq(&entry.get().standing, &self.standing)
        {
            entry.remove();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: u64) -> Holding {
        Holding::Lease(LeaseId::new(id))
    }

    #[test]
    fn everything_is_resumed_in_bounded_calls() {
        let holdings = Arc::new(Holdings::new("a".to_owned()));
        assert!(holdings.resumptions().is_empty());
        let leases: Vec<_> = (0..1001).map(|id| holdings.keep(lease(id))).collect();
        let region = holdings.keep(Holding::Region("vram".parse().unwrap()));
        let calls = holdings.resumptions();
        let counts: Vec<_> = calls.iter().map(|call| (call.leases.len(), call.regions.len())).collect();
        assert_eq!(counts, [(500, 1), (500, 0), (1, 0)]);
        assert!(calls.iter().all(|call| call.instance == "a"));
        drop((leases, region));
        assert!(holdings.resumptions().is_empty());
    }

    #[test]
    fn what_is_lost_stays_lost_and_leaves_its_successor_alone() {
        let holdings = Arc::new(Holdings::new("a".to_owned()));
        let (first, second) = (holdings.keep(lease(1)), holdings.keep(lease(2)));
        holdings.lose(ResumeReply { lost_leases: vec![LeaseId::new(1)], lost_regions: vec![] });
        assert!(first.is_lost() && !second.is_lost());
        assert!(matches!(first.check(), Err(CallFailed::HoldingLost(Holding::Lease(_)))));

        holdings.move_to("b".to_owned());
        assert!(second.is_lost() && holdings.resumptions().is_empty());
        // Another table counts from 1 again.
        let again = holdings.keep(lease(1));
        drop(first);
        assert!(!again.is_lost() && !holdings.resumptions().is_empty());
    }

    #[test]
    fn events_of_another_table_are_about_other_leases() {
        let holdings = Arc::new(Holdings::new("a".to_owned()));
        let kept = holdings.keep(lease(1));
        let lease = serde_json::json!({
            "id": 1, "region": "emulated", "generation": 1, "offset": 0, "length": 4096, "paths": [],
            "direction": "read", "method": "pinned", "revocation": "advisory", "emulated": true,
            "owner": {"uid": 0, "gid": 0, "pid": 1}, "state": {"kind": "active"},
        });
        let event = |kind: &str| {
            serde_json::from_value(serde_json::json!({"kind": kind, "lease": lease, "reason": "region_gone"}))
                .unwrap()
        };
        holdings.heed("b", &event("lease_revoked"));
        assert!(kept.standing().is_good());
        holdings.heed("a", &event("lease_revoked"));
        // Asked for, and not gone: it can still be given back.
        assert!(!kept.standing().is_good() && !kept.is_lost());
        holdings.heed("a", &event("lease_ended"));
        assert!(kept.is_lost() && holdings.resumptions().is_empty());
    }

    #[test]
    fn whoever_claims_a_lease_has_it_and_whoever_had_it_has_not() {
        let lease = |pid: u32| -> Lease {
            serde_json::from_value(serde_json::json!({
                "id": 1, "region": "emulated", "generation": 1, "offset": 0, "length": 4096, "paths": [],
                "direction": "read", "method": "pinned", "revocation": "advisory", "emulated": true,
                "owner": {"uid": 0, "gid": 0, "pid": pid}, "state": {"kind": "active"},
            }))
            .unwrap()
        };
        let moved = Event::LeaseDelegated { lease: lease(2), from: lease(1).owner };
        let [giver, taker] = [1, 2].map(|_| Arc::new(Holdings::new("a".to_owned())));
        let (given, taken) = (giver.keep_lease(&lease(1), false), taker.keep_lease(&lease(2), true));
        giver.heed("a", &moved);
        taker.heed("a", &moved);
        assert!(given.is_lost() && !taken.is_lost());

        // In one process, by two clients, and by one.
        let moved = Event::LeaseDelegated { lease: lease(1), from: lease(1).owner };
        let [giver, taker] = [1, 2].map(|_| Arc::new(Holdings::new("a".to_owned())));
        let (given, taken) = (giver.keep_lease(&lease(1), false), taker.keep_lease(&lease(1), true));
        giver.heed("a", &moved);
        taker.heed("a", &moved);
        assert!(given.is_lost() && !taken.is_lost());
        let again = taker.keep_lease(&lease(1), true);
        taker.heed("a", &moved);
        assert!(taken.is_lost() && again.standing().is_good());
        drop(taken);
        assert!(!taker.resumptions().is_empty());
    }
}
