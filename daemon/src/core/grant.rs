//! From a request to a lease.

use peermem_proto::{
    Event, Initiator, Lease, LeaseId, LeaseState, Path, ProviderKind, Refusal, Revocation, Route,
    call::{self, MOST_INITIATORS},
    varlink::CallError,
};

use super::{
    Answer, Broker, Client, Effect, NoRoute, Placed, Reach, Returns, Routes, SessionId, Ticket,
    book::{Entry, Stage},
    broker::Effects,
    extent,
    permission::{ask, lifetime, room_for, shared_with},
    region::RegionState,
    timers::Timer,
};
use peermem_proto::Action::{Delegate, Drive, Map};

impl<R: Routes> Broker<R> {
    pub(super) fn map(
        &mut self,
        id: SessionId,
        ticket: Ticket,
        request: &call::Map,
        out: &mut Effects,
    ) -> Result<(), Refusal> {
        self.refuse_if_draining()?;
        let client = self.client_of(id)?;
        let region = self.book.region(&request.region)?;
        shared_with(region, client.owner.uid)?;
        check_count(&request.initiators)?;
        let once;
        let request = if are_distinct(&request.initiators) {
            request
        } else {
            once = each_once(request);
            &once
        };
        let allowed = ask(&self.policy, &client, Map, &request.region, &request.initiators)?;
        let range = extent::resolve(region, request.extent()?)?;
        let paths = self.find_paths(region, &request.initiators)?;
        let reach = self.reach(&client, request)?;
        let lifetime = lifetime(&allowed, request.lease_secs)?;
        room_for(&self.limits, &self.book.users, &self.book.usage, &allowed, range.length())?;

        let lease = Lease {
            id: self.next_lease,
            region: request.region.clone(),
            generation: region.generation,
            offset: range.offset(),
            length: range.length(),
            revocation: revocation(region, &paths),
            paths,
            direction: request.direction,
            method: region.spec.method,
            emulated: region.spec.provider == ProviderKind::Emulated,
            owner: client.owner,
            expires_at: None,
            state: LeaseState::Active {},
            waiting: false,
        };
        let charge = Some(self.book.usage.add(&allowed, range.length()));
        out.push(Effect::Carve { lease: lease.id, region: lease.region.clone(), range, reach });
        let (session, stage) = (Some(id), Stage::Carving(ticket, lifetime));
        self.book.reserve(Entry { lease, client, session, stage, token: None, charge });
        self.next_lease = self.next_lease.next();
        Ok(())
    }

    fn find_paths(&self, region: &RegionState, initiators: &[Initiator]) -> Result<Vec<Path>, Refusal> {
        let path = |initiator: &Initiator| {
            let route = self.find_route(region, initiator)?;
            let found = self.findings.of(region, initiator)?;
            Ok(Path { initiator: initiator.clone(), route, dma: None, found })
        };
        initiators.iter().map(path).collect()
    }

    fn find_route(&self, region: &RegionState, initiator: &Initiator) -> Result<Route, Refusal> {
        let unknown = || Refusal::UnknownInitiator { initiator: initiator.clone() };
        let blocked = |why| {
            let (region, initiator) = (region.spec.name.clone(), initiator.clone());
            Refusal::NoRoute { region, initiator, why }
        };
        // The stand-in for a device reaches only memory that is a stand-in too.
        if *initiator == Initiator::Emulated && region.spec.provider != ProviderKind::Emulated {
            return Err(unknown());
        }
        if matches!(initiator, Initiator::Vfio(_)) && region.spec.provider != ProviderKind::Vfio {
            return Err(blocked(
                "the daemon maps for it only BARs that it serves itself (`[[vfio.bar]]`)".to_owned(),
            ));
        }
        let route = self.routes.route(region.spec.device, initiator);
        let route = route.map_err(|no_route| match no_route {
            NoRoute::UnknownInitiator => unknown(),
            NoRoute::Blocked(why) => blocked(why),
        })?;
        // Beyond the host bridge the address may be another one.
        if matches!((initiator, &route), (Initiator::Vfio(_), Route::HostBridge { .. })) {
            return Err(blocked(
                "no IOMMU translates for it, and the way leads through the host bridge: where it would reach the memory is known \
                 below one root port only, without ACS redirection"
                    .to_owned(),
            ));
        }
        Ok(route)
    }

    /// What initiators that the daemon owns must reach, out of what was asked for.
    fn reach(&self, client: &Client, request: &call::Map) -> Result<Reach, Refusal> {
        let owned = |initiator: &Initiator| match initiator {
            Initiator::Vfio(address) => {
                let at = request.at.iter().find(|at| at.initiator == *initiator);
                Some((*address, at.map(|at| at.iova)))
            }
            Initiator::Rdma(_) | Initiator::Pci(_) | Initiator::Emulated => None,
        };
        let initiators = request.initiators.iter().filter_map(owned).collect();
        let mut meant = request.at.iter().map(|at| at.initiator.clone());
        let driven = request.drive.map(Initiator::Vfio);
        let is_for = |initiator: &Initiator| {
            matches!(initiator, Initiator::Vfio(_)) && request.initiators.contains(initiator)
        };
        if let Some(initiator) = meant.find(|at| !is_for(at)).or(driven.filter(|driven| !is_for(driven))) {
            let why =
                "only vfio initiators that the mapping is for have addresses and devices to give".to_owned();
            return Err(Refusal::InitiatorNotServed { initiator, why });
        }
        if let Some(device) = request.drive {
            ask(&self.policy, client, Drive, &request.region, &[Initiator::Vfio(device)])?;
        }
        let (direction, drive, uid) = (request.direction, request.drive, client.owner.uid);
        Ok(Reach { initiators, direction, drive, uid })
    }

    pub(super) fn carved(&mut self, id: LeaseId, outcome: Result<Placed, CallError>, out: &mut Effects) {
        let Some(entry) = self.book.lease_mut(id) else {
            return self.carved_too_late(id, outcome.is_ok(), out);
        };
        let Stage::Carving(ticket, lifetime) = entry.stage else { return };
        match outcome {
            Ok(Placed { memory, offset, addresses }) => {
                entry.stage = Stage::Granted(memory);
                entry.lease.offset = offset.unwrap_or(entry.lease.offset);
                for path in &mut entry.lease.paths {
                    path.dma = addresses.iter().find(|dma| dma.initiator == path.initiator).cloned();
                }
                self.set_expiry(id, lifetime.map(|lifetime| self.now.after(lifetime)));
                self.record_lease(id, out);
                self.announce(id, |lease| Event::LeaseGranted { lease }, out);
                let granted = self.book.lease(id).map(|entry| entry.lease.clone());
                out.extend(granted.map(|lease| Effect::Answer(ticket, Ok(Answer::Granted(lease)))));
            }
            Err(error) => {
                self.book.forget(id);
                out.push(Effect::Answer(ticket, Err(error)));
            }
        }
    }

    /// The memory of a lease that ended meanwhile.
    fn carved_too_late(&mut self, id: LeaseId, is_there: bool, out: &mut Effects) {
        let Some((region, range)) = self.orphans.remove(&id) else { return };
        if is_there {
            out.push(Effect::Release { lease: id, region, range });
        } else if self
            .book
            .regions
            .get(&region)
            .is_some_and(|region| region.spec.returns == Returns::InItsTime)
        {
            self.book.recover(&region, range.length());
        }
    }

    pub(super) fn renew(
        &mut self,
        session: SessionId,
        request: call::Renew,
        out: &mut Effects,
    ) -> Result<Answer, Refusal> {
        self.refuse_if_draining()?;
        let entry = self.book.own_lease(session, request.lease)?;
        refuse_if_revoked(entry)?;
        let Lease { id, region, paths, .. } = &entry.lease;
        let (id, initiators) = (*id, initiators_of(paths));
        let allowed = ask(&self.policy, &entry.client, Map, region, &initiators)?;
        let lifetime = lifetime(&allowed, request.lease_secs)?;
        let expires_at = lifetime.map(|lifetime| self.now.after(lifetime));
        self.set_expiry(id, expires_at);
        self.record_lease(id, out);
        self.announce(id, |lease| Event::LeaseRenewed { lease }, out);
        let entry = self.book.own_lease(session, id)?;
        Ok(Answer::Renewed(entry.lease.clone()))
    }

    /// Gives a lease another time to end.
    pub(super) fn set_expiry(&mut self, id: LeaseId, expires_at: Option<peermem_proto::Moment>) {
        let Some(entry) = self.book.lease_mut(id) else { return };
        if let Some(at) = std::mem::replace(&mut entry.lease.expires_at, expires_at) {
            self.timers.cancel(at, Timer::Expiry(id));
        }
        if let Some(at) = expires_at {
            self.timers.set(at, Timer::Expiry(id));
        }
    }

    /// Whether a client may pass a lease on.
    pub(super) fn may_delegate(&self, entry: &Entry) -> Result<(), Refusal> {
        refuse_if_revoked(entry)?;
        let Lease { region, paths, .. } = &entry.lease;
        ask(&self.policy, &entry.client, Delegate, region, &initiators_of(paths)).map(drop)
    }
}

/// Whom the lease is for.
pub(super) fn initiators_of(paths: &[Path]) -> Vec<Initiator> {
    paths.iter().map(|path| path.initiator.clone()).collect()
}

pub(super) fn refuse_if_revoked(entry: &Entry) -> Result<(), Refusal> {
    match entry.lease.state {
        LeaseState::Active {} => Ok(()),
        LeaseState::Revoked { reason, .. } => Err(Refusal::LeaseRevoked { lease: entry.lease.id, reason }),
    }
}

/// What taking the memory back does. Who reaches it past any IOMMU can't be kept from it.
fn revocation(region: &RegionState, paths: &[Path]) -> Revocation {
    let unhindered =
        |path: &Path| matches!(path.initiator, Initiator::Vfio(_)) && path.route != Route::Iommu {};
    if paths.iter().any(unhindered) { Revocation::Advisory } else { region.spec.revocation }
}

fn are_distinct(initiators: &[Initiator]) -> bool {
    initiators.iter().enumerate().all(|(at, initiator)| !initiators[..at].contains(initiator))
}

/// Whoever names an initiator twice means it once: the memory is mapped for it at one address.
fn each_once(request: &call::Map) -> call::Map {
    let mut request = request.clone();
    let all = std::mem::take(&mut request.initiators);
    for initiator in all {
        if !request.initiators.contains(&initiator) {
            request.initiators.push(initiator);
        }
    }
    request
}

fn check_count(initiators: &[Initiator]) -> Result<(), Refusal> {
    let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
    if (1..=MOST_INITIATORS).contains(&initiators.len()) {
        return Ok(());
    }
    Err(Refusal::InitiatorCount { got: count(initiators.len()), most: count(MOST_INITIATORS) })
}
