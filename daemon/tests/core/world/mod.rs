//! A model of the world around the core: what its effects and announcements, and nothing else, say the state is.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use peermem_proto::{
    Action, ByteLen, ByteRange, Direction, Event, Extent, Fault, Initiator, Lease, LeaseEnd, LeaseId,
    LeaseState, PciAddress, ProviderKind, Refusal, Region, RegionName, Revocation, Revoked, Shape, Token,
    call, varlink::CallError,
};
use peermemd::{
    core::{
        Answer, Broker, Client, Effect, Input, Limits, MemoryId, RegionSpec, Remembered, Returns, SessionId,
        Ticket,
    },
    policy::{Actor, Bounds, Globs, Policy, Rule, Usage, Who},
};

use super::{
    steps::Step,
    support::{BEYOND, LIMITS, MEMORY, PAGE, TRANSLATED, Table, UNTRANSLATED, bar, client, pool, window},
};

mod check;
mod hear;
mod lives;

const TIGHT: Limits = Limits { leases_per_user: 6, descriptors_per_user: 2, ..LIMITS };

/// The policies that a test goes through: root's alone in the last one.
fn policy(which: u8) -> Policy {
    let rule = |name: &str, uids: std::ops::RangeInclusive<u32>, allow: &[Action], bounds: Bounds| Rule {
        name: name.parse().unwrap(),
        who: Who { uids: vec![uids], gids: BTreeSet::new() },
        regions: Globs::all(),
        initiators: Globs::all(),
        allow: allow.iter().copied().collect(),
        bounds,
    };
    let none = Bounds::default();
    let tight = Bounds {
        bytes_per_user: Some(ByteLen::new(4 * PAGE)),
        leases_per_user: Some(3),
        longest_lease: Some(std::time::Duration::from_secs(60)),
    };
    let mut policy = Policy::built_in(999);
    let rules = match which {
        0 => vec![rule("all", 0..=9, &Action::ALL, none)],
        1 => vec![rule("tight", 1..=2, &Action::ALL, tight), rule("rest", 0..=9, &[Action::Map], none)],
        2 => vec![rule("no", 2..=2, &[], none), rule("all", 0..=9, &Action::ALL, none)],
        _ => vec![],
    };
    for rule in rules {
        policy.push(rule).unwrap();
    }
    policy
}

fn name(number: u8) -> RegionName {
    format!("region{number}").parse().unwrap()
}

fn function(number: u8) -> PciAddress {
    format!("0000:0{number}:00.0").parse().unwrap()
}

/// What the effects say that there is.
pub(crate) struct World {
    broker: Broker<Table>,
    now: peermem_proto::Moment,
    which_policy: u8,
    sessions: BTreeMap<SessionId, Client>,
    waiting: BTreeSet<Ticket>,
    carving: BTreeMap<LeaseId, (RegionName, ByteRange)>,
    /// Memory that was carved and not released.
    held: BTreeSet<LeaseId>,
    regions: BTreeMap<RegionName, Region>,
    /// What providers offer: it outlives the daemon.
    offered: BTreeMap<RegionName, RegionSpec>,
    leases: BTreeMap<LeaseId, Lease>,
    /// On which connection a lease hangs.
    session_of: HashMap<LeaseId, SessionId>,
    tokens: BTreeMap<Token, LeaseId>,
    /// What its records come to.
    journal: Remembered,
    /// What has come about, so that a test which never gets somewhere is noticed.
    pub(crate) seen: BTreeSet<&'static str>,
    drained: bool,
    next: u64,
    steps: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let now = peermem_proto::Moment::from_millis(5_000);
        Self {
            broker: Broker::new(now, Table, policy(0), TIGHT, "instance".to_owned()),
            now,
            which_policy: 0,
            sessions: BTreeMap::new(),
            waiting: BTreeSet::new(),
            carving: BTreeMap::new(),
            held: BTreeSet::new(),
            regions: BTreeMap::new(),
            offered: BTreeMap::new(),
            leases: BTreeMap::new(),
            session_of: HashMap::new(),
            tokens: BTreeMap::new(),
            journal: Remembered::nothing(),
            seen: BTreeSet::new(),
            drained: false,
            next: 1,
            steps: 0,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.number());
        self.waiting.insert(ticket);
        ticket
    }

    fn session(&self, choice: u8) -> SessionId {
        choose(self.sessions.keys(), choice).unwrap_or(SessionId(0))
    }

    /// One of the leases, or one that there isn't.
    fn lease(&self, choice: u8) -> LeaseId {
        let all: Vec<_> = self.leases.keys().copied().collect();
        all.get(usize::from(choice) % (all.len() + 1)).copied().unwrap_or(LeaseId::new(u64::MAX))
    }

    fn is_mine(&self, session: SessionId, lease: LeaseId) -> bool {
        self.leases.contains_key(&lease) && self.session_of.get(&lease) == Some(&session)
    }

    pub(crate) fn run(&mut self, step: &Step) {
        match *step {
            Step::Found { name: number, pages, shape, returns_late, enforced } => {
                let returns =
                    if returns_late && shape == Shape::Pool { Returns::InItsTime } else { Returns::AtOnce };
                let revocation = if enforced { Revocation::Enforced } else { Revocation::Advisory };
                let spec = RegionSpec { shape, returns, revocation, ..pool(name(number).as_str(), pages) };
                if !self.regions.contains_key(&spec.name) {
                    self.offered.insert(spec.name.clone(), spec.clone());
                }
                self.input(Input::RegionFound(spec));
            }
            Step::FoundBar { name: number, pages } => {
                let spec = bar(name(number).as_str(), function(number / 2), pages);
                if !self.regions.contains_key(&spec.name) {
                    self.offered.insert(spec.name.clone(), spec.clone());
                }
                self.input(Input::RegionFound(spec));
            }
            Step::LoseInitiator(choice) => {
                let initiator: Initiator =
                    [TRANSLATED, UNTRANSLATED][usize::from(choice % 2)].parse().unwrap();
                self.input(Input::InitiatorLost(initiator.clone()));
                let mut paths = self.leases.values().flat_map(|lease| &lease.paths);
                assert!(paths.all(|path| path.initiator != initiator), "leases outlived their initiator");
            }
            Step::Lost(number) => {
                self.offered.remove(&name(number));
                self.input(Input::RegionLost(name(number)));
            }
            Step::Connect { uid } => {
                let session = SessionId(self.number());
                let client = client(u32::from(uid), u32::try_from(session.0).unwrap());
                self.sessions.insert(session, client.clone());
                self.input(Input::Connected(session, client));
            }
            Step::Disconnect(choice) => {
                let session = self.session(choice);
                self.sessions.remove(&session);
                self.input(Input::Disconnected(session));
            }
            Step::Map { session, region, offset, length, initiator, secs } => {
                self.map(self.session(session), region, offset, length, initiator, secs);
            }
            Step::FinishCarve { which, ok } => {
                if let Some(lease) = choose(self.carving.keys(), which) {
                    self.finish_carve(lease, ok);
                }
            }
            Step::Unmap { session, lease } => {
                let (session, lease) = (self.session(session), self.lease(lease));
                let mine = self.is_mine(session, lease);
                let answer = self.call(|ticket| Input::Unmap(session, ticket, lease));
                assert_eq!(answer.is_ok(), mine, "{session:?} gave back {lease}: {answer:?}");
            }
            Step::Renew { session, lease, secs } => {
                let (session, lease) = (self.session(session), self.lease(lease));
                let request = call::Renew { lease, lease_secs: secs.map(u64::from) };
                if let Ok(answer) = self.call(|ticket| Input::Renew(session, ticket, request)) {
                    assert!(self.is_mine(session, lease) && !self.drained);
                    assert_eq!(answer, Answer::Renewed(self.leases[&lease].clone()));
                }
            }
            Step::Delegate { session, lease, other_memory } => {
                let (session, lease) = (self.session(session), self.lease(lease));
                let token = Token::from_random(u128::from(self.number()));
                let memory = MemoryId { inode: MEMORY.inode + u64::from(other_memory), ..MEMORY };
                let answer = self.call(|ticket| Input::Delegate(session, ticket, lease, memory, token));
                if let Ok(answer) = answer {
                    assert!(self.is_mine(session, lease) && !other_memory && !self.drained);
                    assert_eq!(answer, Answer::Delegated(token));
                    self.tokens.insert(token, lease);
                }
            }
            Step::Claim { session, token } => self.claim(self.session(session), token),
            Step::Revoke { session, lease } => {
                let (session, lease) = (self.session(session), self.lease(lease));
                let known = self.leases.contains_key(&lease);
                let root = self.sessions.get(&session).is_some_and(|client| client.owner.uid == 0);
                let answer = self.call(|ticket| Input::Revoke(session, ticket, lease));
                assert!(known || answer.is_err());
                assert!(!(root && known) || answer.is_ok(), "root may not revoke: {answer:?}");
                if answer.is_ok() {
                    let state = self.leases.get(&lease).map(|lease| lease.state);
                    assert!(!matches!(state, Some(LeaseState::Active {})), "revoked and active");
                }
            }
            Step::Register { session, name: number, pages, sharing } => {
                let session = self.session(session);
                let spec = RegionSpec { sharing, ..window(name(number).as_str(), pages) };
                let taken = self.regions.contains_key(&spec.name);
                let answer = self.call(|ticket| Input::Register(session, ticket, spec.clone()));
                assert!(!(taken && answer.is_ok()), "a name was given twice");
                if answer.is_ok() {
                    self.offered.insert(spec.name.clone(), spec);
                }
            }
            Step::Unregister { session, name: number } => {
                let session = self.session(session);
                let answer = self.call(|ticket| Input::Unregister(session, ticket, name(number)));
                assert_eq!(answer.is_ok(), answer == Ok(Answer::Done));
            }
            Step::Recover { region, pages } => {
                let region = name(region);
                let missing =
                    self.broker.regions().find(|found| found.name == region).map(|found| found.missing);
                let back = missing.unwrap_or_default().min(ByteLen::new(pages * PAGE));
                // What is being carved for nobody isn't back yet.
                let carving: u64 = self.orphans_of(&region);
                let back = back.saturating_sub(ByteLen::new(carving));
                self.input(Input::Recovered(region, back));
            }
            Step::Pass { secs } => {
                self.now = self.now.after(std::time::Duration::from_secs(secs.into()));
                self.input(Input::Tick);
                assert!(
                    self.broker.next_deadline().is_none_or(|next| next > self.now),
                    "something due was left"
                );
            }
            Step::Policy(which) => {
                self.which_policy = which;
                self.input(Input::Configured(policy(which), TIGHT));
            }
            Step::Restart { dead } => self.restart(dead),
            Step::Resume { session } => self.resume(self.session(session)),
            Step::Drain => {
                self.drained = true;
                self.input(Input::Drain);
            }
        }
        self.check();
    }

    fn call(&mut self, input: impl FnOnce(Ticket) -> Input) -> Result<Answer, CallError> {
        let ticket = self.ticket();
        let effects = self.broker.step(self.now, input(ticket));
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Answer(answered, answer) if *answered == ticket => Some(answer.clone()),
            _ => None,
        });
        effects.into_iter().for_each(|effect| self.absorb_one(effect));
        answer.expect("this call is answered at once")
    }

    fn input(&mut self, input: Input) {
        let effects = self.broker.step(self.now, input);
        effects.into_iter().for_each(|effect| self.absorb_one(effect));
    }
}

fn choose<T: Copy>(
    from: impl ExactSizeIterator<Item = impl std::borrow::Borrow<T>>,
    choice: u8,
) -> Option<T> {
    let count = from.len();
    let mut from = from;
    from.nth(usize::from(choice).checked_rem(count)?).map(|chosen| *chosen.borrow())
}
