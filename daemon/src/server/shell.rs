//! Between the pure core and the world: carries out effects.

use std::{
    collections::{HashMap, VecDeque},
    rc::Rc,
    time::Instant,
};

use peermem_proto::{
    Event, Initiator, LeaseId, Owner, PROTOCOL_VERSION, Refusal, RegionName, call, status::Status,
    varlink::CallError,
};
use tokio::sync::broadcast;

use super::topology::LiveTopology;
use crate::{
    config::{Connections, Settings},
    core::{Answer, Broker, Effect, Input, RegionSpec, SessionId, Ticket},
    metrics::Metrics,
    provider::{Carved, Dmabuf, Exporters, Source, registered_spec},
};

/// How many clients that aren't admitted are told why at a time; more are hung up on.
const MOST_TURNED_AWAY: usize = 64;

/// How many events a watcher may lag behind.
const EVENT_BACKLOG: usize = 1024;

/// The core, and what it needs from the world.
#[derive(Debug)]
pub struct Shell {
    broker: Broker<LiveTopology>,
    sources: HashMap<RegionName, Source>,
    /// Carved memory that isn't on its way to the client yet.
    carved: HashMap<LeaseId, Carved>,
    events: broadcast::Sender<Rc<Event>>,
    connections: Connections,
    connections_of_user: HashMap<u32, u64>,
    turned_away: usize,
    exporters: Exporters,
    emulation: bool,
    next: u64,
    started: Instant,
    metrics: Metrics,
}

impl Shell {
    /// No regions yet.
    pub fn new(settings: &Settings, topology: LiveTopology, metrics: Metrics) -> Self {
        Self {
            broker: Broker::new(topology, settings.limits),
            sources: HashMap::new(),
            carved: HashMap::new(),
            events: broadcast::Sender::new(EVENT_BACKLOG),
            connections: settings.connections,
            connections_of_user: HashMap::new(),
            turned_away: 0,
            exporters: settings.exporters.clone(),
            emulation: !settings.emulated.is_empty(),
            next: 0,
            started: Instant::now(),
            metrics,
        }
    }

    /// What connections may cost.
    pub fn connections(&self) -> Connections {
        self.connections
    }

    /// The metrics, with the gauges as of now.
    pub fn metrics(&self) -> &Metrics {
        self.metrics.observe(&self.broker);
        &self.metrics
    }

    pub(super) fn broker(&self) -> &Broker<LiveTopology> {
        &self.broker
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<Rc<Event>> {
        self.events.subscribe()
    }

    /// Offers a region.
    pub fn add_region(&mut self, spec: RegionSpec, source: Source) {
        tracing::info!(region = %spec.name, "region {} found: {}, {}", spec.name, spec.size, spec.provider);
        self.sources.insert(spec.name.clone(), source);
        self.run(Input::RegionFound(spec));
    }

    /// Whether there is no region at all.
    pub fn is_empty(&self) -> bool {
        self.broker.region_count() == 0
    }

    /// No more grants.
    pub fn drain(&mut self) {
        self.run(Input::Drain);
    }

    pub(super) fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL_VERSION,
            pid: std::process::id(),
            uptime_secs: self.started.elapsed().as_secs(),
            connections: self.broker.session_count(),
            regions: self.broker.region_count(),
            leases: self.broker.lease_count(),
            leased_bytes: self.broker.leased_from_pools(),
            emulation: self.emulation,
            draining: self.broker.is_draining(),
        }
    }

    /// Begins a session, unless the user has too many.
    pub(super) fn connect(&mut self, owner: Owner) -> Result<SessionId, Refusal> {
        let held = self.connections_of_user.entry(owner.uid).or_default();
        if owner.uid != 0 && *held >= self.connections.per_user {
            return Err(Refusal::LimitReached {
                what: format!("connections of user {}", owner.uid),
                key: "connections_per_user".to_owned(),
                limit: self.connections.per_user,
            });
        }
        *held += 1;
        let session = SessionId(self.number());
        self.run(Input::Connected(session, owner));
        self.metrics.connected();
        Ok(session)
    }

    /// Whether another client that isn't admitted may be told why. Each costs descriptors until it has asked.
    pub(super) fn begin_turning_away(&mut self) -> bool {
        let room = self.turned_away < MOST_TURNED_AWAY;
        self.turned_away += usize::from(room);
        room
    }

    /// A client that wasn't admitted has been told.
    pub(super) fn end_turning_away(&mut self) {
        self.turned_away -= 1;
    }

    /// Ends a session and everything it had.
    pub(super) fn disconnect(&mut self, session: SessionId, owner: Owner) {
        self.run(Input::Disconnected(session));
        if let Some(held) = self.connections_of_user.get_mut(&owner.uid) {
            *held -= 1;
            if *held == 0 {
                self.connections_of_user.remove(&owner.uid);
            }
        }
    }

    pub(super) fn map(
        &mut self,
        session: SessionId,
        request: call::Map,
    ) -> Result<(call::MapReply, Carved), CallError> {
        // Devices come and go; an unknown one is looked for before the core refuses it.
        for initiator in request.initiators.iter().take(call::MOST_INITIATORS) {
            self.broker.routes_mut().has_initiator(initiator);
        }
        let region = request.region.clone();
        match self.call(|ticket| Input::Map(session, ticket, request))? {
            Answer::Granted(lease) => {
                // `run` has put it there before the core granted the lease.
                let carved =
                    self.carved.remove(&lease.id).ok_or(Refusal::UnknownLease { lease: lease.id })?;
                self.metrics.mapped(&lease);
                let paths: Vec<_> = lease.paths.iter().map(ToString::to_string).collect();
                tracing::info!(
                    lease = %lease.id, %region, uid = lease.owner.uid, pid = lease.owner.pid,
                    "lease {} granted: {} of {region} for {}", lease.id, lease.length, paths.join(" and for ")
                );
                let reply = call::MapReply { lease, memory_fd: 0, memory_offset: carved.offset };
                Ok((reply, carved))
            }
            other => unreachable!("a map was answered with {other:?}"),
        }
    }

    pub(super) fn unmap(&mut self, session: SessionId, lease: LeaseId) -> Result<call::Empty, CallError> {
        self.call(|ticket| Input::Unmap(session, ticket, lease)).map(|_| call::Empty {})
    }

    pub(super) fn register(
        &mut self,
        session: SessionId,
        request: &call::Register,
        fd: std::os::fd::OwnedFd,
    ) -> Result<call::RegisterReply, CallError> {
        let dmabuf = Dmabuf::inspect(fd, &self.exporters)?;
        if !self.broker.routes_mut().has_function(request.device) {
            return Err(Refusal::UnknownDevice { device: request.device }.into());
        }
        let spec = registered_spec(request, &dmabuf);
        match self.call(|ticket| Input::Register(session, ticket, spec))? {
            Answer::Registered(region) => {
                tracing::info!(
                    region = %region.name, device = %request.device,
                    "region {} registered: {} of {}", region.name, region.size, request.device
                );
                self.sources.insert(region.name.clone(), Source::Registered(dmabuf));
                Ok(call::RegisterReply { region })
            }
            other => unreachable!("a registration was answered with {other:?}"),
        }
    }

    pub(super) fn unregister(
        &mut self,
        session: SessionId,
        region: RegionName,
    ) -> Result<call::Empty, CallError> {
        self.call(|ticket| Input::Unregister(session, ticket, region)).map(|_| call::Empty {})
    }

    pub(super) fn report_device(
        &mut self,
        session: SessionId,
        report: call::ReportDevice,
    ) -> Result<call::Empty, CallError> {
        let initiator = Initiator::Rdma(report.device.clone());
        if !self.broker.routes_mut().has_initiator(&initiator) {
            return Err(Refusal::UnknownInitiator { initiator }.into());
        }
        let call::ReportDevice { device, found } = report.clone();
        self.call(|ticket| Input::DeviceTested(session, ticket, report))?;
        tracing::info!(%device, dmabuf = found.dmabuf, "self-test of {device}: {}", found.on_demand);
        Ok(call::Empty {})
    }

    pub(super) fn report_pair(
        &mut self,
        session: SessionId,
        report: call::ReportPair,
    ) -> Result<call::Empty, CallError> {
        if !self.broker.routes_mut().has_initiator(&report.initiator) {
            return Err(Refusal::UnknownInitiator { initiator: report.initiator }.into());
        }
        if !self.broker.routes_mut().has_function(report.provider) {
            return Err(Refusal::UnknownDevice { device: report.provider }.into());
        }
        let call::ReportPair { provider, initiator, wrong } = report.clone();
        self.call(|ticket| Input::PairTested(session, ticket, report))?;
        match wrong {
            Some(wrong) => {
                tracing::warn!(%provider, %initiator, "bytes between {initiator} and {provider}: {wrong}");
            }
            None => {
                tracing::debug!(%provider, %initiator, "no loss is known between {initiator} and {provider}");
            }
        }
        Ok(call::Empty {})
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn call(&mut self, input: impl FnOnce(Ticket) -> Input) -> Result<Answer, CallError> {
        let ticket = Ticket(self.number());
        self.run(input(ticket)).unwrap_or_else(|| unreachable!("every carve is finished inside `run`"))
    }

    /// Takes one input and carries out everything that follows from it. Answers at most the one call it is about.
    fn run(&mut self, input: Input) -> Option<Result<Answer, CallError>> {
        let mut answered = None;
        let mut todo = VecDeque::from(self.broker.step(input));
        while let Some(effect) = todo.pop_front() {
            match effect {
                Effect::Carve { lease, region, range } => {
                    let outcome = match self.sources.get(&region) {
                        Some(source) => source.carve(&region, range),
                        None => unreachable!("region {region} has no source"),
                    };
                    let outcome = outcome.map(|carved| drop(self.carved.insert(lease, carved)));
                    todo.extend(self.broker.step(Input::Carved(lease, outcome)));
                }
                // No provider keeps anything for a lease once its descriptor is with the client.
                Effect::Release { lease, .. } => drop(self.carved.remove(&lease)),
                Effect::Close(region) => drop(self.sources.remove(&region)),
                Effect::Answer(_, answer) => answered = Some(answer),
                Effect::Announce(event) => self.announce(event),
            }
        }
        answered
    }

    fn announce(&self, event: Event) {
        if let Event::LeaseEnded { lease, reason } = &event {
            tracing::info!(
                lease = %lease.id, region = %lease.region, uid = lease.owner.uid, pid = lease.owner.pid,
                "lease {} ended: {reason}", lease.id
            );
        }
        // An error says that nobody watches.
        let _ = self.events.send(Rc::new(event));
    }

    pub(super) fn answered(&self, method: &str, began: Instant, error: Option<&CallError>) {
        self.metrics.answered(method, began.elapsed(), error);
    }
}
