//! The state machine: what goes in, and whose matter it is.

use std::{collections::HashMap, sync::Arc};

use peermem_proto::{ByteRange, Event, Generation, LeaseEnd, LeaseId, Moment, Refusal, RegionName, Token};

use super::{
    Answer, Client, Effect, Input, Limits, Record, Routes, SessionId, Ticket,
    book::Book,
    findings::Findings,
    session::Session,
    timers::{Timer, Timers},
};
use crate::policy::Policy;

/// What an input comes to, in order.
pub(super) type Effects = Vec<Effect>;

/// Who may have what.
#[derive(Debug)]
pub struct Broker<R> {
    pub(super) routes: R,
    pub(super) policy: Policy,
    pub(super) limits: Limits,
    pub(super) findings: Findings,
    pub(super) book: Book,
    pub(super) timers: Timers,
    /// The lease behind each token, and how long the token is good.
    pub(super) tokens: HashMap<Token, (LeaseId, Moment)>,
    /// Leases that ended while their memory was being carved: it is released as soon as it is there.
    pub(super) orphans: HashMap<LeaseId, (RegionName, ByteRange)>,
    pub(super) next_lease: LeaseId,
    pub(super) next_generation: Generation,
    pub(super) instance: String,
    pub(super) draining: bool,
    /// As of the latest input.
    pub(super) now: Moment,
}

impl<R: Routes> Broker<R> {
    /// Nothing known yet but the topology. `instance` names this table of leases.
    pub fn new(now: Moment, routes: R, policy: Policy, limits: Limits, instance: String) -> Self {
        Self {
            routes,
            policy,
            limits,
            findings: Findings::default(),
            book: Book::default(),
            timers: Timers::default(),
            tokens: HashMap::new(),
            orphans: HashMap::new(),
            next_lease: LeaseId::FIRST,
            next_generation: Generation::FIRST,
            instance,
            draining: false,
            now,
        }
    }

    /// The topology, to bring it up to date.
    pub fn routes_mut(&mut self) -> &mut R {
        &mut self.routes
    }

    /// The topology.
    pub fn routes(&self) -> &R {
        &self.routes
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.timers.next()
    }

    /// Takes one input, after everything that was due before it; what must be done comes back, in order.
    pub fn step(&mut self, now: Moment, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        self.now = self.now.max(now);
        while let Some(timer) = self.timers.take_due(self.now) {
            self.fire(timer, &mut out);
        }
        self.take(input, &mut out);
        out
    }

    fn take(&mut self, input: Input, out: &mut Effects) {
        match input {
            Input::RegionFound(spec) => self.found(spec, out),
            Input::RegionLost(name) => self.drop_region(&name, out),
            Input::Recovered(region, bytes) => self.book.recover(&region, bytes),
            Input::Missing(region, bytes) => self.book.miss(&region, bytes),
            Input::InitiatorLost(initiator) => self.lose_initiator(&initiator, out),
            Input::Connected(session, client) => {
                self.book.sessions.insert(session, Session::new(client));
            }
            Input::Disconnected(session) => self.disconnect(session, out),
            Input::Died(client) => self.bury(&client, out),
            Input::Map(session, ticket, request) => {
                if let Err(refusal) = self.map(session, ticket, &request, out) {
                    out.push(Effect::Answer(ticket, Err(refusal.into())));
                }
            }
            Input::Carved(lease, outcome) => self.carved(lease, outcome, out),
            Input::Withdrawn(lease) => self.end(lease, LeaseEnd::Unmapped, out),
            Input::Unmap(session, ticket, lease) => {
                let answer = self.unmap(session, lease, out);
                answered(ticket, answer.map(|()| Answer::Done), out);
            }
            Input::Renew(session, ticket, request) => {
                let answer = self.renew(session, request, out);
                answered(ticket, answer, out);
            }
            Input::Delegate(session, ticket, lease, memory, token) => {
                let answer = self.delegate(session, lease, memory, token, out);
                answered(ticket, answer, out);
            }
            Input::Claim(session, ticket, token) => {
                let answer = self.claim(session, token, out);
                answered(ticket, answer, out);
            }
            Input::Revoke(session, ticket, lease) => {
                let answer = self.revoke_for(session, lease, out);
                answered(ticket, answer, out);
            }
            Input::Resume(session, ticket, request) => {
                let answer = self.resume(session, &request, out);
                answered(ticket, answer, out);
            }
            Input::Register(session, ticket, spec) => {
                let answer = self.register(session, spec, out);
                answered(ticket, answer, out);
            }
            Input::Unregister(session, ticket, name) => {
                let answer = self.unregister(session, &name, out);
                answered(ticket, answer.map(|()| Answer::Done), out);
            }
            Input::DeviceTested(session, ticket, report) => {
                let answer = self.as_root(session).map(|()| self.findings.device(report));
                answered(ticket, answer.map(|()| Answer::Done), out);
            }
            Input::PairTested(session, ticket, report) => {
                let answer = self.as_root(session).map(|()| self.findings.pair(report));
                answered(ticket, answer.map(|()| Answer::Done), out);
            }
            Input::Configured(policy, limits) => self.configure(policy, limits, out),
            Input::Tick => {}
            Input::Drain => self.draining = true,
        }
    }

    fn fire(&mut self, timer: Timer, out: &mut Effects) {
        match timer {
            Timer::Expiry(lease) => self.revoke(lease, peermem_proto::Revoked::Expired, out),
            Timer::Overdue(lease) => self.overdue(lease, out),
            Timer::Token(token) => {
                if let Some((lease, _)) = self.tokens.get(&token).copied() {
                    self.drop_token(lease, out);
                }
            }
            Timer::Resume => self.end_of_grace(out),
        }
    }

    pub(super) fn client_of(&self, session: SessionId) -> Result<Arc<Client>, Refusal> {
        self.book.session(session).map(|session| Arc::clone(&session.client))
    }

    pub(super) fn refuse_if_draining(&self) -> Result<(), Refusal> {
        if self.draining { Err(Refusal::Draining {}) } else { Ok(()) }
    }

    /// Whether the session is root's: what self-tests found decides what others may map.
    fn as_root(&self, session: SessionId) -> Result<(), Refusal> {
        match self.book.session(session) {
            Ok(session) if session.client.owner.uid == 0 => Ok(()),
            _ => Err(Refusal::RootOnly { what: "report what a self-test found".to_owned() }),
        }
    }

    /// Writes down how a lease is now.
    pub(super) fn record_lease(&self, id: LeaseId, out: &mut Effects) {
        let record = self.book.lease(id).and_then(super::book::Entry::record);
        out.extend(record.map(|record| Effect::Record(Record::Lease(record))));
    }

    /// Tells the watchers about a lease.
    pub(super) fn announce(
        &self,
        id: LeaseId,
        event: impl FnOnce(peermem_proto::Lease) -> Event,
        out: &mut Effects,
    ) {
        out.extend(self.book.lease(id).map(|entry| Effect::Announce(event(entry.lease.clone()))));
    }
}

fn answered(ticket: Ticket, answer: Result<Answer, Refusal>, out: &mut Effects) {
    out.push(Effect::Answer(ticket, answer.map_err(Into::into)));
}
