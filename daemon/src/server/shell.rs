//! Between the pure core and the world: carries out effects.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
    time::Instant,
};

use peermem_proto::{
    Event, Fault, LeaseId, Moment, PROTOCOL_VERSION, PciAddress, RegionName, Token, call, status::Status,
    varlink::CallError,
};
use tokio::{
    sync::{Notify, broadcast, mpsc, oneshot},
    task::AbortHandle,
};

use super::{clock, memory::Memory, pool::Work, refused::Refusals, topology::LiveTopology, users::Users};
use crate::{
    audit::{Audit, Record},
    config::Settings,
    core::{Answer, Broker, Effect, Input, RegionSpec, Ticket},
    functions::Functions,
    metrics::{Metrics, Observed},
    provider::{Carved, Exporters, P2pmemRules, Source},
};

/// How many events a watcher may lag behind.
const EVENT_BACKLOG: usize = 1024;

/// What a call comes to.
pub(super) type Outcome = Result<Answer, CallError>;

/// What a call comes to, now or later.
#[derive(Debug)]
pub(super) enum Called {
    Now(Outcome),
    Later(oneshot::Receiver<Outcome>),
}

impl Called {
    /// Waits for it.
    pub(super) async fn outcome(self) -> Outcome {
        match self {
            Self::Now(outcome) => outcome,
            Self::Later(outcome) => {
                // The shell drops no sender without an answer while it lives.
                outcome.await.unwrap_or_else(|_| Err(peermem_proto::Refusal::Draining {}.into()))
            }
        }
    }
}

/// Effects that are still to be carried out.
#[derive(Default)]
struct Todo {
    effects: VecDeque<Effect>,
    /// Why something that an answer among them may depend on couldn't be written down.
    unrecorded: Option<String>,
}

/// The core, and what it needs from the world.
#[derive(Debug)]
pub struct Shell {
    pub(super) broker: Broker<LiveTopology>,
    pub(super) sources: BTreeMap<RegionName, Source>,
    /// Carved memory that isn't on its way to the client yet.
    pub(super) carved: BTreeMap<LeaseId, Carved>,
    /// Memory that waits behind a token. Hashed, so that the time of a look says nothing of the tokens that there are.
    pub(super) delegated: HashMap<Token, Carved>,
    waiting: BTreeMap<Ticket, oneshot::Sender<Outcome>>,
    answered: Option<(Ticket, Outcome)>,
    events: broadcast::Sender<Rc<Event>>,
    pub(super) users: Users,
    pub(super) turned_away: usize,
    pub(super) refusals: Refusals,
    pub(super) audit: Audit,
    /// Why the config that was read last doesn't count.
    pub(super) config_refused: Option<String>,
    pub(super) exporters: Exporters,
    emulation: bool,
    pub(super) memory: Memory,
    next: u64,
    started: Instant,
    pub(super) metrics: Metrics,
    /// Told when the core's next deadline comes before the one that is waited for.
    pub(super) deadline_changed: Rc<Notify>,
    armed: Option<Moment>,
    pub(super) work: mpsc::UnboundedSender<Work>,
    pub(super) p2pmem: Option<P2pmemRules>,
    pub(super) functions: Functions,
    /// What waits for the kernel to want a function back.
    pub(super) watches: BTreeMap<PciAddress, AbortHandle>,
    /// What looks whether memory of a function has come back.
    pub(super) looks: BTreeMap<PciAddress, AbortHandle>,
}

impl Shell {
    /// No regions yet.
    pub fn new(
        settings: &Settings,
        topology: LiveTopology,
        metrics: Metrics,
        memory: Memory,
        work: mpsc::UnboundedSender<Work>,
    ) -> Self {
        let (policy, limits) = (settings.policy.clone(), settings.limits);
        let instance = memory.instance().to_string();
        let functions = Functions::new(settings.vfio.clone(), memory.store());
        Self {
            broker: Broker::new(clock::now(), topology, policy, limits, instance),
            sources: BTreeMap::new(),
            carved: BTreeMap::new(),
            delegated: HashMap::new(),
            waiting: BTreeMap::new(),
            answered: None,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            users: Users::new(settings.connections),
            turned_away: 0,
            refusals: Refusals::default(),
            audit: Audit::to(settings.audit_namespace.as_ref()),
            config_refused: None,
            exporters: settings.exporters.clone(),
            emulation: !settings.emulated.is_empty(),
            memory,
            next: 0,
            started: Instant::now(),
            metrics,
            deadline_changed: Rc::new(Notify::new()),
            armed: None,
            work,
            p2pmem: settings.p2pmem.clone(),
            functions,
            watches: BTreeMap::new(),
            looks: BTreeMap::new(),
        }
    }

    /// The metrics, with the gauges as of now.
    pub fn metrics(&self) -> &Metrics {
        let dmabufs = || {
            self.sources.values().filter_map(|source| match source {
                Source::Registered(dmabuf) => Some(dmabuf.size().get()),
                _ => None,
            })
        };
        let beside = Observed {
            watchers: self.users.watchers(),
            dmabufs: dmabufs().count() as u64,
            dmabuf_bytes: dmabufs().sum(),
            delegated: self.delegated.len() as u64,
        };
        self.metrics.observe(&self.broker, beside, &self.broker.routes().rdma_devices());
        let largest = self.sources.iter().filter_map(|(region, source)| match source {
            Source::Vfio(bar) => Some((region.clone(), self.functions.figures(*bar)?.largest)),
            _ => None,
        });
        self.metrics.observe_functions(largest, self.functions.mapping_counts());
        &self.metrics
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Rc<Event>> {
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

    /// Lets happen what is due, and says when something is due again.
    pub(super) fn tick(&mut self) -> Option<Moment> {
        self.run(Input::Tick);
        self.armed = self.broker.next_deadline();
        self.armed
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
            waiting: self.broker.waiting_count(),
            overdue: self.broker.overdue_count(),
            leased_bytes: self.broker.leased_from_pools(),
            emulation: self.emulation,
            draining: self.broker.is_draining(),
            config_refused: self.config_refused.clone(),
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Puts a call to the core.
    pub(super) fn call(&mut self, input: impl FnOnce(Ticket) -> Input) -> Called {
        let ticket = Ticket(self.number());
        self.run(input(ticket));
        match self.answered.take() {
            Some((answered, outcome)) if answered == ticket => Called::Now(outcome),
            _ => {
                let (say, outcome) = oneshot::channel();
                self.waiting.insert(ticket, say);
                Called::Later(outcome)
            }
        }
    }

    /// The same for a call that the core answers at once.
    pub(super) fn call_now(&mut self, input: impl FnOnce(Ticket) -> Input) -> Outcome {
        match self.call(input) {
            Called::Now(outcome) => outcome,
            Called::Later(_) => unreachable!("only a mapping waits for anything"),
        }
    }

    /// Takes one input and carries out everything that follows from it.
    pub(super) fn run(&mut self, input: Input) {
        let effects = self.now_step(input);
        self.perform(effects);
        if self.memory.is_due_for_rewrite() && self.memory.rewrite(self.broker.snapshot()) {
            self.metrics.rewritten();
        }
        let next = self.broker.next_deadline();
        if next.is_some() && (self.armed.is_none() || next < self.armed) {
            self.armed = next;
            self.deadline_changed.notify_one();
        }
    }

    fn now_step(&mut self, input: Input) -> Vec<Effect> {
        self.broker.step(clock::now(), input)
    }

    /// Carries out effects, and those that follow from them.
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        let mut todo = Todo::default();
        self.take_up(effects, &mut todo);
        while let Some(effect) = todo.effects.pop_front() {
            let mut follows = Vec::new();
            match effect {
                Effect::Carve { lease, region, range, reach } => {
                    follows = self.carve(lease, &region, range, &reach);
                }
                Effect::Release { lease, region, range } => {
                    follows.extend(self.release(lease, &region, range));
                }
                Effect::TakeBack(device) => follows = self.take_back_all(device),
                Effect::Close(region) => {
                    self.sources.remove(&region);
                    self.memory.forget_region(&region);
                }
                Effect::Forget(token) => drop(self.delegated.remove(&token)),
                Effect::Record(_) => unreachable!("records are written when they are taken up"),
                Effect::Answer(ticket, outcome) => match (outcome, &todo.unrecorded) {
                    (Ok(answer), Some(reason)) => {
                        follows.extend(self.take_back(ticket, &answer, reason.clone()));
                    }
                    (outcome, _) => self.answer(ticket, outcome),
                },
                Effect::Announce(event) => self.announce(event),
            }
            for input in follows {
                let effects = self.now_step(input);
                self.take_up(effects, &mut todo);
            }
        }
    }

    /// Puts the effects of a step behind those that are to do, but for its records: they are written first, in one write.
    fn take_up(&mut self, effects: Vec<Effect>, todo: &mut Todo) {
        let mut records = Vec::new();
        for effect in effects {
            match effect {
                Effect::Record(record) => records.push(record),
                other => todo.effects.push_back(other),
            }
        }
        if records.is_empty() {
            return;
        }
        let recorded = self.memory.record(&records);
        self.metrics.recorded(records.len(), recorded.is_ok());
        if let Err(reason) = recorded {
            tracing::error!("the journal can't be written: {reason}");
            todo.unrecorded = Some(reason);
        }
    }

    fn answer(&mut self, ticket: Ticket, outcome: Outcome) {
        match self.waiting.remove(&ticket) {
            // A caller that has gone hears nothing; what it was granted ends with its session.
            Some(waits) => drop(waits.send(outcome)),
            None => self.answered = Some((ticket, outcome)),
        }
    }

    /// A restart would lose what was just granted: so it isn't. What ends may end all the same.
    fn take_back(&mut self, ticket: Ticket, answer: &Answer, reason: String) -> Option<Input> {
        let (granted, undo) = match answer {
            Answer::Granted(lease) => (true, Some(Input::Withdrawn(lease.id))),
            Answer::Registered(region) => (true, Some(Input::RegionLost(region.name.clone()))),
            Answer::Renewed(_) => (true, None),
            _ => (false, None),
        };
        let outcome = if granted { Err(Fault::NotRecorded { reason }.into()) } else { Ok(answer.clone()) };
        self.answer(ticket, outcome);
        undo
    }

    pub(super) fn announce(&mut self, event: Event) {
        match super::log::grant(&event) {
            Some(record) => self.write_down(&record),
            None => super::log::event(&event),
        }
        self.metrics.happened(&event);
        // An error says that nobody watches.
        let _ = self.events.send(Rc::new(event));
    }

    pub(super) fn write_down(&mut self, record: &Record<'_>) {
        self.metrics.written_down(self.audit.write(record));
    }

    pub(super) fn answered(&self, method: &str, began: Instant, error: Option<&CallError>) {
        self.metrics.answered(method, began.elapsed(), error);
    }
}

/// The reply that hands memory over.
pub(super) fn handover(lease: peermem_proto::Lease, carved: &Carved) -> call::MapReply {
    let device_fd = carved.device.as_ref().map(|_| 1);
    call::MapReply { lease, memory_fd: 0, memory_offset: carved.offset, device_fd }
}
