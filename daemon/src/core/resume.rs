//! After a restart: what is remembered, and who comes back for it.

use std::{collections::BTreeMap, sync::Arc};

use peermem_proto::{ByteLen, Event, Generation, LeaseEnd, LeaseId, LeaseState, Refusal, RegionName, call};

use super::{
    Answer, Broker, Client, Effect, LeaseRecord, Record, RegionSpec, Remembered, Routes, SessionId,
    book::{Entry, Stage, range_of},
    broker::Effects,
    region::{RegionOwner, RegionState},
    timers::Timer,
};

impl<R: Routes> Broker<R> {
    /// Takes up what an earlier daemon knew. `offered` are the regions that there are now; `lives` says whether a process
    /// is still there. Leases of the living wait for their clients until the end of the grace period; all others end.
    ///
    /// Call it once, before the first [`Broker::step`].
    pub fn restore(
        &mut self,
        remembered: Remembered,
        offered: Vec<RegionSpec>,
        lives: impl Fn(&Client) -> bool,
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        self.next_lease = self.next_lease.max(remembered.next_lease);
        self.next_generation = self.next_generation.max(remembered.next_generation);
        let mut regions = remembered.regions;
        for spec in offered {
            match regions.remove(&spec.name).filter(|earlier| spec.is_still(&earlier.spec)) {
                Some(earlier) if earlier.owner.as_ref().is_none_or(&lives) => {
                    let owner =
                        earlier.owner.map(|client| RegionOwner { session: None, client: Arc::new(client) });
                    let leased =
                        || leased_by_the_living(&remembered.leases, &spec.name, earlier.generation, &lives);
                    let size = spec.size_after(&earlier.spec, leased);
                    let spec = RegionSpec { size, ..spec };
                    self.book.add_region(RegionState::new(spec, earlier.generation, owner));
                }
                Some(_) => out.push(Effect::Close(spec.name)),
                None => drop(self.add_region(spec, None, &mut out)),
            }
        }
        for (id, record) in remembered.leases {
            debug_assert!(id < self.next_lease);
            out.extend(self.remember(record, &lives).map(Effect::Announce));
        }
        self.judge_all(&mut out);
        self.timers.set(self.now.after(self.limits.resume_grace), Timer::Resume);
        out
    }

    /// Books a lease that waits for its client. One that can't be waited for has ended: so the event says.
    fn remember(&mut self, record: LeaseRecord, lives: impl Fn(&Client) -> bool) -> Option<Event> {
        let LeaseRecord { mut lease, client, memory } = record;
        let region = self.book.regions.get(&lease.region);
        let fits = region.is_some_and(|region| {
            region.generation == lease.generation
                && range_of(&lease).is_some_and(|range| range.end() <= region.spec.size)
                && (region.free() >= lease.length)
        });
        if !fits {
            return Some(Event::LeaseEnded { lease, reason: LeaseEnd::RegionGone });
        }
        if !lives(&client) {
            return Some(Event::LeaseEnded { lease, reason: LeaseEnd::OwnerGone });
        }
        lease.waiting = true;
        let (id, state, expires_at) = (lease.id, lease.state, lease.expires_at);
        let (client, stage) = (Arc::new(client), Stage::Granted(memory));
        self.book.reserve(Entry { lease, client, session: None, stage, token: None, charge: None });
        self.set_expiry(id, expires_at);
        if let LeaseState::Revoked { at, overdue: false, .. } = state {
            self.timers.set(at.after(self.limits.revoke_grace), Timer::Overdue(id));
        }
        None
    }

    pub(super) fn resume(
        &mut self,
        session: SessionId,
        request: &call::Resume,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.refuse_if_draining()?;
        let client = self.client_of(session)?;
        let same_table = request.instance == self.instance;
        let mut reply = call::ResumeReply::default();
        for id in &request.leases {
            let mine = self.book.lease(*id).is_some_and(|entry| {
                entry.session == Some(session)
                    || entry.session.is_none() && entry.client.is_same_process(&client)
            });
            if !mine || !same_table {
                reply.lost_leases.push(*id);
            } else if self.book.lease(*id).is_some_and(|entry| entry.session.is_none()) {
                self.book.attach(*id, session);
                self.announce(*id, |lease| Event::LeaseResumed { lease }, out);
            }
        }
        for name in &request.regions {
            if !same_table || !self.book.resume_region(name, session, &client) {
                reply.lost_regions.push(name.clone());
            }
        }
        Ok(Answer::Resumed(reply))
    }

    /// A process whose leases waited for it has died.
    pub(super) fn bury(&mut self, client: &Client, out: &mut Effects) {
        self.end_waiting(LeaseEnd::OwnerGone, |waiting| waiting.is_same_process(client), out);
    }

    /// Whoever hasn't come back by now won't.
    pub(super) fn end_of_grace(&mut self, out: &mut Effects) {
        self.end_waiting(LeaseEnd::NotResumed, |_| true, out);
    }

    fn end_waiting(&mut self, reason: LeaseEnd, whose: impl Fn(&Client) -> bool, out: &mut Effects) {
        let waiting = self.book.leases().filter(|entry| entry.session.is_none() && whose(&entry.client));
        let leases: Vec<LeaseId> = waiting.map(|entry| entry.lease.id).collect();
        for lease in leases {
            self.end(lease, reason, out);
        }
        let regions = self.book.regions.values().filter(|region| {
            region.owner.as_ref().is_some_and(|owner| owner.session.is_none() && whose(&owner.client))
        });
        let regions: Vec<RegionName> = regions.map(|region| region.spec.name.clone()).collect();
        for region in regions {
            self.drop_region(&region, out);
        }
    }

    /// Everything that a restart must know, as records.
    pub fn snapshot(&self) -> impl Iterator<Item = Record> {
        let next = Record::Next { lease: self.next_lease, generation: self.next_generation };
        let regions = self.book.regions.values().map(|region| Record::Region(region.record()));
        let leases = self.book.leases().filter_map(Entry::record).map(Record::Lease);
        std::iter::once(next).chain(regions).chain(leases)
    }

    /// The processes whose leases or regions wait for them.
    pub fn waiting(&self) -> impl Iterator<Item = &Client> {
        let leases = self.book.leases().filter(|entry| entry.session.is_none()).map(|entry| &*entry.client);
        let owners = self.book.regions.values().filter_map(|region| region.owner.as_ref());
        leases.chain(owners.filter(|owner| owner.session.is_none()).map(|owner| &*owner.client))
    }

    /// How many bytes of a pool its provider should have, and how many are with leases.
    pub fn division_of(&self, region: &RegionName) -> Option<(ByteLen, ByteLen)> {
        let region = self.book.regions.get(region)?;
        Some((region.free(), region.spec.size.saturating_sub(region.free())))
    }
}

/// How much of a region leases have whose clients live.
fn leased_by_the_living(
    leases: &BTreeMap<LeaseId, LeaseRecord>,
    region: &RegionName,
    generation: Generation,
    lives: impl Fn(&Client) -> bool,
) -> ByteLen {
    let of_it = leases.values().filter(|LeaseRecord { lease, client, .. }| {
        (&lease.region, lease.generation) == (region, generation) && lives(client)
    });
    of_it.fold(ByteLen::ZERO, |sum, record| sum.saturating_add(record.lease.length))
}
