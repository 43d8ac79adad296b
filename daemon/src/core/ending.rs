//! The ways in which a lease ends.

use peermem_proto::{
    Action, Event, Initiator, LeaseEnd, LeaseId, LeaseState, PciAddress, Refusal, Revocation, Revoked,
    varlink::CallError,
};

use super::{
    Answer, Broker, Effect, Record, Returns, Routes, SessionId,
    book::{Entry, Stage},
    broker::Effects,
    grant::{initiators_of, refuse_if_revoked},
    permission::ask,
    timers::Timer,
};

impl<R: Routes> Broker<R> {
    /// Ends a lease, wherever it stands.
    pub(super) fn end(&mut self, id: LeaseId, reason: LeaseEnd, out: &mut Effects) {
        self.drop_token(id, out);
        let Some(entry) = self.book.forget(id) else { return };
        let (range, lease) = (entry.range(), entry.lease);
        if let Some(at) = lease.expires_at {
            self.timers.cancel(at, Timer::Expiry(id));
        }
        if let LeaseState::Revoked { at, .. } = lease.state {
            self.timers.cancel(at.after(self.limits.revoke_grace), Timer::Overdue(id));
        }
        let region = lease.region.clone();
        if self.book.regions.get(&region).is_some_and(|region| region.spec.returns == Returns::InItsTime) {
            self.book.miss(&region, range.length());
        }
        match entry.stage {
            Stage::Carving(ticket, _) => {
                let why: CallError = match reason {
                    LeaseEnd::RegionGone => Refusal::UnknownRegion { region: region.clone() }.into(),
                    _ => Refusal::UnknownLease { lease: id }.into(),
                };
                self.orphans.insert(id, (region, range));
                out.push(Effect::Answer(ticket, Err(why)));
            }
            Stage::Granted(_) => {
                out.push(Effect::Record(Record::LeaseGone { id }));
                out.push(Effect::Release { lease: id, region, range });
                out.push(Effect::Announce(Event::LeaseEnded { lease, reason }));
            }
        }
    }

    pub(super) fn unmap(
        &mut self,
        session: SessionId,
        id: LeaseId,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        let reason = match self.book.own_lease(session, id)?.lease.state {
            LeaseState::Active {} => LeaseEnd::Unmapped,
            LeaseState::Revoked { .. } => LeaseEnd::Revoked,
        };
        self.end(id, reason, out);
        Ok(())
    }

    /// Ends what hung on a connection.
    pub(super) fn disconnect(&mut self, id: SessionId, out: &mut Effects) {
        let Some(session) = self.book.sessions.get_mut(&id) else { return };
        let (leases, regions) = (std::mem::take(&mut session.leases), std::mem::take(&mut session.regions));
        for lease in leases {
            self.end(lease, LeaseEnd::OwnerGone, out);
        }
        for region in regions {
            self.drop_region(&region, out);
        }
        self.book.sessions.remove(&id);
    }

    /// Takes a lease from its client, or tells the client to let go: where nothing more can be done, and where taking it would
    /// hit neighbours without anybody having asked for that. Those have the grace period to see it coming.
    pub(super) fn revoke(&mut self, id: LeaseId, reason: Revoked, out: &mut Effects) {
        let Some(entry) = self.book.lease(id) else { return };
        let enforced = entry.lease.revocation == Revocation::Enforced;
        let at_once = self.device_of(entry).is_none() || reason == Revoked::Administrator;
        if !entry.is_granted() || enforced && at_once {
            return self.take_back(id, out);
        }
        if refuse_if_revoked(entry).is_err() {
            return;
        }
        self.drop_token(id, out);
        self.set_expiry(id, None);
        let at = self.now;
        self.book.set_state(id, LeaseState::Revoked { reason, at, overdue: false });
        self.timers.set(at.after(self.limits.revoke_grace), Timer::Overdue(id));
        self.record_lease(id, out);
        self.announce(id, |lease| Event::LeaseRevoked { lease }, out);
    }

    /// Ends a lease whose memory can be taken back, with all leases of a device that gives it back only as a whole.
    fn take_back(&mut self, id: LeaseId, out: &mut Effects) {
        let Some(entry) = self.book.lease(id) else { return };
        let device = self.device_of(entry).filter(|_| entry.is_granted());
        self.end(id, LeaseEnd::Revoked, out);
        let Some(device) = device else { return };
        let of_device = |entry: &&Entry| self.device_of(entry) == Some(device);
        let neighbours: Vec<_> = self.book.leases().filter(of_device).map(|entry| entry.lease.id).collect();
        for neighbour in neighbours {
            self.end(neighbour, LeaseEnd::NeighbourRevoked, out);
        }
        out.push(Effect::TakeBack(device));
    }

    fn device_of(&self, entry: &Entry) -> Option<PciAddress> {
        self.book.regions.get(&entry.lease.region)?.spec.gives_back_as_a_whole()
    }

    /// A device is gone that leases are for.
    pub(super) fn lose_initiator(&mut self, initiator: &Initiator, out: &mut Effects) {
        let is_for = |entry: &&Entry| entry.lease.paths.iter().any(|path| path.initiator == *initiator);
        let leases: Vec<_> = self.book.leases().filter(is_for).map(|entry| entry.lease.id).collect();
        for lease in leases {
            self.end(lease, LeaseEnd::InitiatorGone, out);
        }
    }

    /// The client of a revoked lease has had time enough.
    pub(super) fn overdue(&mut self, id: LeaseId, out: &mut Effects) {
        let Some(entry) = self.book.lease(id) else { return };
        if entry.lease.revocation == Revocation::Enforced {
            return self.take_back(id, out);
        }
        let LeaseState::Revoked { reason, at, .. } = entry.lease.state else { return };
        self.book.set_state(id, LeaseState::Revoked { reason, at, overdue: true });
        self.record_lease(id, out);
        self.announce(id, |lease| Event::LeaseOverdue { lease }, out);
    }

    /// Revokes a lease because `session` asks for it: the owner of the registered region may, and whom the policy lets.
    pub(super) fn revoke_for(
        &mut self,
        session: SessionId,
        id: LeaseId,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        let client = self.client_of(session)?;
        let entry = self.book.lease(id).filter(|entry| entry.is_granted());
        let entry = entry.ok_or(Refusal::UnknownLease { lease: id })?;
        let region = &entry.lease.region;
        let owns = self.book.region(region)?.is_owned_by(session);
        if !owns {
            ask(&self.policy, &client, Action::Revoke, region, &initiators_of(&entry.lease.paths))?;
        }
        let revocation = entry.lease.revocation;
        self.revoke(id, if owns { Revoked::RegionOwner } else { Revoked::Administrator }, out);
        Ok(Answer::Revoked(revocation))
    }
}
