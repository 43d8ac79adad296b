//! The state machine.

use std::collections::{BTreeMap, HashMap};

use peermem_proto::{
    ByteRange, Event, Fault, Generation, Initiator, Lease, LeaseEnd, LeaseId, Path, ProviderKind, Refusal,
    RegionName, Route, Sharing,
    call::{self, MOST_INITIATORS},
};

use super::{
    Answer, Effect, Input, Limits, NoRoute, RegionSpec, Routes, SessionId, Ticket, extent,
    findings::Findings, region::RegionState, session::Session,
};

/// A lease and how far it has come.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    session: SessionId,
    /// The call that waits for it; `None` once it is active.
    carving: Option<Ticket>,
}

impl Entry {
    pub(super) fn is_active(&self) -> bool {
        self.carving.is_none()
    }
}

/// Who may have what.
#[derive(Debug)]
pub struct Broker<R> {
    routes: R,
    limits: Limits,
    findings: Findings,
    pub(super) regions: BTreeMap<RegionName, RegionState>,
    pub(super) leases: BTreeMap<LeaseId, Entry>,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    leases_of_user: HashMap<u32, u64>,
    /// Leases that ended while their memory was being carved: it is released as soon as it is there.
    orphans: HashMap<LeaseId, RegionName>,
    next_lease: LeaseId,
    next_generation: Generation,
    pub(super) draining: bool,
}

impl<R: Routes> Broker<R> {
    /// Nothing known yet but the topology.
    pub fn new(routes: R, limits: Limits) -> Self {
        Self {
            routes,
            limits,
            findings: Findings::default(),
            regions: BTreeMap::new(),
            leases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            leases_of_user: HashMap::new(),
            orphans: HashMap::new(),
            next_lease: LeaseId::FIRST,
            next_generation: Generation::FIRST,
            draining: false,
        }
    }

    /// The topology, to bring it up to date.
    pub fn routes_mut(&mut self) -> &mut R {
        &mut self.routes
    }

    /// Takes one input; what must be done about it comes back, in order.
    pub fn step(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::RegionFound(spec) => {
                if !self.regions.contains_key(&spec.name) {
                    self.add_region(spec, None, &mut effects);
                }
            }
            Input::RegionLost(name) => self.drop_region(&name, &mut effects),
            Input::Connected(session, owner) => {
                self.sessions.insert(session, Session::new(owner));
            }
            Input::Disconnected(session) => self.disconnect(session, &mut effects),
            Input::Map(session, ticket, request) => {
                let effect = self
                    .map(session, ticket, &request)
                    .unwrap_or_else(|refusal| Effect::Answer(ticket, Err(refusal.into())));
                effects.push(effect);
            }
            Input::Carved(lease, outcome) => self.carved(lease, outcome, &mut effects),
            Input::Unmap(session, ticket, lease) => {
                let answer = self.unmap(session, lease, &mut effects);
                effects.push(done(ticket, answer));
            }
            Input::Register(session, ticket, spec) => {
                let answer = self.register(session, spec, &mut effects);
                effects.push(Effect::Answer(ticket, answer.map_err(Into::into)));
            }
            Input::Unregister(session, ticket, name) => {
                let answer = self.unregister(session, &name, &mut effects);
                effects.push(done(ticket, answer));
            }
            Input::DeviceTested(session, ticket, report) => {
                let answer = self.as_root(session).map(|()| self.findings.device(report));
                effects.push(done(ticket, answer));
            }
            Input::PairTested(session, ticket, report) => {
                let answer = self.as_root(session).map(|()| self.findings.pair(report));
                effects.push(done(ticket, answer));
            }
            Input::Drain => self.draining = true,
        }
        effects
    }

    fn map(&mut self, id: SessionId, ticket: Ticket, request: &call::Map) -> Result<Effect, Refusal> {
        if self.draining {
            return Err(Refusal::Draining {});
        }
        let gone = || Refusal::NotYours { what: "this connection".to_owned() };
        let session = self.sessions.get(&id).ok_or_else(gone)?;
        let owner = session.owner;
        let unknown = || Refusal::UnknownRegion { region: request.region.clone() };
        let region = self.regions.get(&request.region).ok_or_else(unknown)?;
        may_map(region, owner.uid)?;
        let range = extent::resolve(region, request.extent()?)?;
        let paths = self.find_paths(region, &request.initiators)?;
        let held = self.leases_of_user.get(&owner.uid).copied().unwrap_or(0);
        self.limits.check_leases(owner, held)?;

        let lease = Lease {
            id: self.next_lease,
            region: request.region.clone(),
            generation: region.generation,
            offset: range.offset(),
            length: range.length(),
            paths,
            direction: request.direction,
            method: region.spec.method,
            revocation: region.spec.revocation,
            emulated: region.spec.provider == ProviderKind::Emulated,
            owner,
        };
        self.next_lease = self.next_lease.next();
        Ok(self.reserve(Entry { lease, session: id, carving: Some(ticket) }, range))
    }

    fn find_paths(&self, region: &RegionState, initiators: &[Initiator]) -> Result<Vec<Path>, Refusal> {
        if !(1..=MOST_INITIATORS).contains(&initiators.len()) {
            let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
            return Err(Refusal::InitiatorCount {
                got: count(initiators.len()),
                most: count(MOST_INITIATORS),
            });
        }
        initiators
            .iter()
            .map(|initiator| {
                let route = self.find_route(region, initiator)?;
                let found = self.findings.of(region, initiator)?;
                Ok(Path { initiator: initiator.clone(), route, found })
            })
            .collect()
    }

    fn find_route(&self, region: &RegionState, initiator: &Initiator) -> Result<Route, Refusal> {
        let unknown = || Refusal::UnknownInitiator { initiator: initiator.clone() };
        // The stand-in for a device reaches only memory that is a stand-in too.
        if *initiator == Initiator::Emulated && region.spec.provider != ProviderKind::Emulated {
            return Err(unknown());
        }
        self.routes.route(region.spec.device, initiator).map_err(|no_route| match no_route {
            NoRoute::UnknownInitiator => unknown(),
            NoRoute::Blocked(why) => {
                Refusal::NoRoute { region: region.spec.name.clone(), initiator: initiator.clone(), why }
            }
        })
    }

    /// Books the lease in all three places; [`Self::forget`] is the opposite.
    fn reserve(&mut self, entry: Entry, range: ByteRange) -> Effect {
        let lease = &entry.lease;
        let effect = Effect::Carve { lease: lease.id, region: lease.region.clone(), range };
        if let Some(region) = self.regions.get_mut(&lease.region) {
            region.leased += u128::from(lease.length.get());
            region.leases.insert(lease.id);
        }
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.leases.insert(lease.id);
        }
        *self.leases_of_user.entry(lease.owner.uid).or_default() += 1;
        self.leases.insert(lease.id, entry);
        effect
    }

    fn forget(&mut self, id: LeaseId) -> Option<Entry> {
        let entry = self.leases.remove(&id)?;
        let lease = &entry.lease;
        if let Some(region) = self.regions.get_mut(&lease.region) {
            region.leased -= u128::from(lease.length.get());
            region.leases.remove(&id);
        }
        if let Some(session) = self.sessions.get_mut(&entry.session) {
            session.leases.remove(&id);
        }
        if let Some(held) = self.leases_of_user.get_mut(&lease.owner.uid) {
            *held -= 1;
            if *held == 0 {
                self.leases_of_user.remove(&lease.owner.uid);
            }
        }
        Some(entry)
    }

    fn carved(&mut self, id: LeaseId, outcome: Result<(), Fault>, effects: &mut Vec<Effect>) {
        match (self.leases.get_mut(&id), outcome) {
            (Some(entry), Ok(())) => {
                let Some(ticket) = entry.carving.take() else { return };
                let lease = entry.lease.clone();
                effects.push(Effect::Announce(Event::LeaseGranted { lease: lease.clone() }));
                effects.push(Effect::Answer(ticket, Ok(Answer::Granted(lease))));
            }
            (Some(_), Err(fault)) => {
                let ticket = self.forget(id).and_then(|entry| entry.carving);
                effects.extend(ticket.map(|ticket| Effect::Answer(ticket, Err(fault.into()))));
            }
            (None, outcome) => {
                let orphan = self.orphans.remove(&id).filter(|_| outcome.is_ok());
                effects.extend(orphan.map(|region| Effect::Release { lease: id, region }));
            }
        }
    }

    /// Ends a lease, wherever it stands.
    fn end(&mut self, id: LeaseId, reason: LeaseEnd, effects: &mut Vec<Effect>) {
        let Some(entry) = self.forget(id) else { return };
        let lease = entry.lease;
        let region = lease.region.clone();
        if let Some(ticket) = entry.carving {
            self.orphans.insert(id, region.clone());
            effects.push(Effect::Answer(ticket, Err(Refusal::UnknownRegion { region }.into())));
        } else {
            effects.push(Effect::Release { lease: id, region });
            effects.push(Effect::Announce(Event::LeaseEnded { lease, reason }));
        }
    }

    fn unmap(&mut self, session: SessionId, id: LeaseId, effects: &mut Vec<Effect>) -> Result<(), Refusal> {
        let entry = self.leases.get(&id).filter(|entry| entry.is_active());
        let entry = entry.ok_or(Refusal::UnknownLease { lease: id })?;
        if entry.session != session {
            return Err(Refusal::NotYours { what: format!("lease {id}") });
        }
        self.end(id, LeaseEnd::Unmapped, effects);
        Ok(())
    }

    /// Whether the session is root's: what self-tests found decides what others may map.
    fn as_root(&self, session: SessionId) -> Result<(), Refusal> {
        match self.sessions.get(&session) {
            Some(session) if session.owner.uid == 0 => Ok(()),
            _ => Err(Refusal::RootOnly { what: "report what a self-test found".to_owned() }),
        }
    }

    fn disconnect(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (leases, regions) = (std::mem::take(&mut session.leases), std::mem::take(&mut session.regions));
        let reason = if self.draining { LeaseEnd::DaemonStopping } else { LeaseEnd::OwnerGone };
        for lease in leases {
            self.end(lease, reason, effects);
        }
        for region in regions {
            self.drop_region(&region, effects);
        }
        self.sessions.remove(&id);
    }

    fn register(
        &mut self,
        id: SessionId,
        spec: RegionSpec,
        effects: &mut Vec<Effect>,
    ) -> Result<Answer, Refusal> {
        let gone = || Refusal::NotYours { what: "this connection".to_owned() };
        let session = self.sessions.get_mut(&id).ok_or_else(gone)?;
        let uid = session.owner.uid;
        if self.draining {
            return Err(Refusal::Draining {});
        }
        if self.regions.contains_key(&spec.name) {
            return Err(Refusal::RegionExists { region: spec.name });
        }
        self.limits.check_regions(session.regions.len())?;
        session.regions.insert(spec.name.clone());
        Ok(Answer::Registered(self.add_region(spec, Some((id, uid)), effects)))
    }

    fn unregister(
        &mut self,
        session: SessionId,
        name: &RegionName,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        let unknown = || Refusal::UnknownRegion { region: name.clone() };
        let region = self.regions.get(name).ok_or_else(unknown)?;
        if region.owner.is_none_or(|(owner, _)| owner != session) {
            return Err(Refusal::NotYours { what: format!("region {name}") });
        }
        self.drop_region(name, effects);
        Ok(())
    }

    fn add_region(
        &mut self,
        spec: RegionSpec,
        owner: Option<(SessionId, u32)>,
        effects: &mut Vec<Effect>,
    ) -> peermem_proto::Region {
        let region = RegionState::new(spec, self.next_generation, owner);
        self.next_generation = self.next_generation.next();
        let described = region.describe();
        self.regions.insert(described.name.clone(), region);
        effects.push(Effect::Announce(Event::RegionAdded { region: described.clone() }));
        described
    }

    fn drop_region(&mut self, name: &RegionName, effects: &mut Vec<Effect>) {
        let Some(region) = self.regions.get(name) else { return };
        for lease in region.leases.clone() {
            self.end(lease, LeaseEnd::RegionGone, effects);
        }
        if let Some((session, _)) = self.regions.remove(name).and_then(|region| region.owner)
            && let Some(session) = self.sessions.get_mut(&session)
        {
            session.regions.remove(name);
        }
        effects.push(Effect::Close(name.clone()));
        effects.push(Effect::Announce(Event::RegionGone { name: name.clone() }));
    }
}

fn done(ticket: Ticket, answer: Result<(), Refusal>) -> Effect {
    Effect::Answer(ticket, answer.map(|()| Answer::Done).map_err(Into::into))
}

fn may_map(region: &RegionState, uid: u32) -> Result<(), Refusal> {
    match region.owner {
        Some((_, owner)) if region.spec.sharing == Sharing::Owner && uid != owner && uid != 0 => {
            Err(Refusal::NotYours { what: format!("region {}", region.spec.name) })
        }
        _ => Ok(()),
    }
}
