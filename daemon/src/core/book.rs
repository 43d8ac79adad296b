//! The books: who holds what. Every sum that depends on the leases changes here and nowhere else.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use peermem_proto::{ByteLen, ByteRange, Lease, LeaseId, LeaseState, Refusal, RegionName, Token};

use super::{
    Client, LeaseRecord, MemoryId, RegionRecord, SessionId, Ticket, limits::Users, region::RegionState,
    session::Session,
};
use crate::policy::{Charge, Usage};

/// A lease and how far it has come.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    pub(super) client: Arc<Client>,
    /// The connection that it hangs on; `None` after a restart, until its client has come back.
    pub(super) session: Option<SessionId>,
    pub(super) stage: Stage,
    /// By which it can be claimed.
    pub(super) token: Option<Token>,
    /// What it is counted as; `None` where no rule of the policy allows it any more.
    pub(super) charge: Option<Charge>,
}

/// Before and after the memory is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stage {
    /// The call waits for the memory. The lease will last that long from the grant on, or for ever.
    Carving(Ticket, Option<Duration>),
    /// This memory was granted.
    Granted(MemoryId),
}

impl Entry {
    /// Whether the client has heard of it.
    pub(super) fn is_granted(&self) -> bool {
        matches!(self.stage, Stage::Granted(_))
    }

    /// Whether it is granted and not revoked.
    pub(super) fn is_held(&self) -> bool {
        self.is_granted() && matches!(self.lease.state, LeaseState::Active {})
    }

    pub(super) fn uid(&self) -> u32 {
        self.lease.owner.uid
    }

    /// As it was carved. A lease's range has been checked when it was granted, or read back.
    pub(super) fn range(&self) -> ByteRange {
        range_of(&self.lease).unwrap_or_else(|| unreachable!("lease {} has no range", self.lease.id))
    }

    /// What a restart must know; nothing before the grant.
    pub(super) fn record(&self) -> Option<LeaseRecord> {
        let Stage::Granted(memory) = self.stage else { return None };
        // Whether a client has come back isn't remembered: after a restart, none has.
        let lease = Lease { waiting: false, ..self.lease.clone() };
        Some(LeaseRecord { lease, client: Client::clone(&self.client), memory })
    }
}

/// The part of its region that a lease covers, unless it ends past the end of numbers.
pub(super) fn range_of(lease: &Lease) -> Option<ByteRange> {
    ByteRange::new(lease.offset, lease.length)
}

/// Who holds what.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) regions: BTreeMap<RegionName, RegionState>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    pub(super) users: Users,
    pub(super) usage: Usage,
    /// Boxed, since leases come in the order of their numbers, which leaves half of each node empty.
    leases: BTreeMap<LeaseId, Box<Entry>>,
    /// How many leases wait for their clients.
    waiting: u64,
    /// How many leases are overdue.
    overdue: u64,
}

impl Book {
    pub(super) fn session(&self, id: SessionId) -> Result<&Session, Refusal> {
        self.sessions.get(&id).ok_or_else(|| Refusal::NotYours { what: "this connection".to_owned() })
    }

    pub(super) fn region(&self, name: &RegionName) -> Result<&RegionState, Refusal> {
        self.regions.get(name).ok_or_else(|| Refusal::UnknownRegion { region: name.clone() })
    }

    pub(super) fn lease(&self, id: LeaseId) -> Option<&Entry> {
        self.leases.get(&id).map(Box::as_ref)
    }

    /// To change what no sum depends on: expiry, stage, charge.
    pub(super) fn lease_mut(&mut self, id: LeaseId) -> Option<&mut Entry> {
        self.leases.get_mut(&id).map(Box::as_mut)
    }

    pub(super) fn leases(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.leases.values().map(Box::as_ref)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    pub(super) fn overdue(&self) -> u64 {
        self.overdue
    }

    pub(super) fn leases_after(&self, after: Option<LeaseId>) -> impl Iterator<Item = &Entry> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.leases.range((after.map_or(Unbounded, Excluded), Unbounded)).map(|(_, entry)| entry.as_ref())
    }

    /// A lease that `session` holds and whose memory is there.
    pub(super) fn own_lease(&self, session: SessionId, id: LeaseId) -> Result<&Entry, Refusal> {
        let entry = self.leases.get(&id).filter(|entry| entry.is_granted());
        let entry = entry.ok_or(Refusal::UnknownLease { lease: id })?;
        if entry.session == Some(session) {
            return Ok(entry);
        }
        Err(Refusal::NotYours { what: format!("lease {id}") })
    }

    /// Books a lease everywhere; [`Self::forget`] is the opposite.
    pub(super) fn reserve(&mut self, entry: Entry) {
        let id = entry.lease.id;
        if let Some(region) = self.regions.get_mut(&entry.lease.region) {
            region.leased += u128::from(entry.lease.length.get());
            region.leases.insert(id);
        }
        if let Some(session) = entry.session.and_then(|session| self.sessions.get_mut(&session)) {
            session.leases.insert(id);
        }
        self.users.change(entry.uid(), |held| {
            held.leases += 1;
            held.bytes += u128::from(entry.lease.length.get());
            held.descriptors += u64::from(entry.token.is_some());
        });
        self.waiting += u64::from(entry.lease.waiting);
        self.overdue += u64::from(entry.lease.state.is_overdue());
        self.leases.insert(id, Box::new(entry));
    }

    /// Strikes a lease out everywhere.
    pub(super) fn forget(&mut self, id: LeaseId) -> Option<Entry> {
        let mut entry = *self.leases.remove(&id)?;
        self.waiting -= u64::from(entry.lease.waiting);
        self.overdue -= u64::from(entry.lease.state.is_overdue());
        if let Some(charge) = entry.charge.take() {
            self.usage.remove(charge);
        }
        if let Some(region) = self.regions.get_mut(&entry.lease.region) {
            region.leased -= u128::from(entry.lease.length.get());
            region.leases.remove(&id);
        }
        if let Some(session) = entry.session.and_then(|session| self.sessions.get_mut(&session)) {
            session.leases.remove(&id);
        }
        self.users.change(entry.uid(), |held| {
            held.leases -= 1;
            held.bytes -= u128::from(entry.lease.length.get());
            held.descriptors -= u64::from(entry.token.is_some());
        });
        Some(entry)
    }

    /// Sets how far a lease has come.
    pub(super) fn set_state(&mut self, id: LeaseId, state: LeaseState) {
        if let Some(entry) = self.leases.get_mut(&id) {
            let former = std::mem::replace(&mut entry.lease.state, state);
            self.overdue = self.overdue + u64::from(state.is_overdue()) - u64::from(former.is_overdue());
        }
    }

    /// Sets or takes away the token by which a lease can be claimed. The former one comes back.
    pub(super) fn set_token(&mut self, id: LeaseId, token: Option<Token>) -> Option<Token> {
        let entry = self.leases.get_mut(&id)?;
        let (uid, is_there) = (entry.uid(), token.is_some());
        let former = std::mem::replace(&mut entry.token, token);
        self.users.change(uid, |held| {
            held.descriptors = held.descriptors + u64::from(is_there) - u64::from(former.is_some());
        });
        former
    }

    /// Adds a region. One that a client registered counts as a descriptor of its user.
    pub(super) fn add_region(&mut self, region: RegionState) {
        if let Some(owner) = &region.owner {
            if let Some(session) = owner.session.and_then(|session| self.sessions.get_mut(&session)) {
                session.regions.insert(region.spec.name.clone());
            }
            self.users.change(owner.client.owner.uid, |held| held.descriptors += 1);
        }
        self.regions.insert(region.spec.name.clone(), region);
    }

    /// Takes a region away, whose leases must have ended.
    pub(super) fn remove_region(&mut self, name: &RegionName) -> Option<RegionState> {
        let region = self.regions.remove(name)?;
        if let Some(owner) = &region.owner {
            if let Some(session) = owner.session.and_then(|session| self.sessions.get_mut(&session)) {
                session.regions.remove(name);
            }
            self.users.change(owner.client.owner.uid, |held| held.descriptors -= 1);
        }
        Some(region)
    }

    /// Hangs a lease that waits for its client on this connection.
    pub(super) fn attach(&mut self, id: LeaseId, to: SessionId) -> Option<&Entry> {
        let entry = self.leases.get_mut(&id)?;
        entry.session = Some(to);
        self.waiting -= u64::from(std::mem::take(&mut entry.lease.waiting));
        self.sessions.get_mut(&to)?.leases.insert(id);
        Some(entry)
    }

    /// Hangs a registered region on this connection of its owner, and says whether the owner has it.
    pub(super) fn resume_region(&mut self, name: &RegionName, to: SessionId, client: &Client) -> bool {
        let owner = self.regions.get_mut(name).and_then(|region| region.owner.as_mut());
        let Some(owner) = owner else { return false };
        if owner.session.is_none() && owner.client.is_same_process(client) {
            owner.session = Some(to);
            if let Some(session) = self.sessions.get_mut(&to) {
                session.regions.insert(name.clone());
            }
        }
        owner.session == Some(to)
    }

    /// Bytes of this region whose lease has ended while the memory is still out.
    pub(super) fn miss(&mut self, region: &RegionName, bytes: ByteLen) {
        if let Some(region) = self.regions.get_mut(region) {
            region.missing = region.missing.checked_add(bytes).unwrap_or(ByteLen::new(u64::MAX));
        }
    }

    /// Bytes of this region that are back.
    pub(super) fn recover(&mut self, region: &RegionName, bytes: ByteLen) {
        if let Some(region) = self.regions.get_mut(region) {
            region.missing = region.missing.saturating_sub(bytes);
        }
    }
}

impl RegionState {
    /// What a restart must know.
    pub(super) fn record(&self) -> RegionRecord {
        RegionRecord {
            spec: self.spec.clone(),
            generation: self.generation,
            owner: self.owner.as_ref().map(|owner| Client::clone(&owner.client)),
        }
    }
}
