//! The core under random inputs: after every step, what it says and what it did must fit together.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use peermem_proto::{
    ByteLen, ByteRange, Direction, Event, Extent, Fault, Initiator, Lease, LeaseId, Method, Owner,
    PciAddress, ProviderKind, Refusal, Region, RegionName, Revocation, Route, Shape, Sharing, call,
    varlink::CallError,
};
use peermemd::core::{Answer, Broker, Effect, Input, Limits, NoRoute, RegionSpec, Routes, SessionId, Ticket};
use proptest::prelude::*;

const PAGE: u64 = 4096;
const LIMITS: Limits = Limits { leases_per_user: 6, regions_per_connection: 2 };

/// Reaches everything, except for one device that is cut off and one that doesn't exist.
struct Table;

impl Routes for Table {
    fn route(&self, _: Option<PciAddress>, initiator: &Initiator) -> Result<Route, NoRoute> {
        match initiator.to_string().as_str() {
            "rdma:cut_off" => Err(NoRoute::Blocked("a wall".to_owned())),
            "rdma:absent" => Err(NoRoute::UnknownInitiator),
            _ => Ok(Route::Software {}),
        }
    }
}

/// What a test does; numbers choose among what exists.
#[derive(Debug, Clone)]
enum Step {
    Found { name: u8, pages: u64, shape: Shape },
    Lost(u8),
    Connect(u8),
    Disconnect(u8),
    Map { session: u8, region: u8, offset: Option<u64>, length: u64, initiator: u8 },
    FinishCarve { which: u8, ok: bool },
    Unmap { session: u8, lease: u8 },
    Register { session: u8, name: u8, pages: u64, sharing: Sharing },
    Unregister { session: u8, name: u8 },
    Drain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let shape = prop_oneof![Just(Shape::Pool), Just(Shape::Window)];
    let sharing = prop_oneof![Just(Sharing::Owner), Just(Sharing::Everyone)];
    let length =
        prop_oneof![8 => (0u64..6).prop_map(|p| p * PAGE), 1 => any::<u64>(), 1 => Just(u64::MAX - 4095)];
    let offset = prop_oneof![2 => Just(None), 1 => (0u64..6).prop_map(|p| Some(p * PAGE)), 1 => any::<u64>().prop_map(Some)];
    let step = prop_oneof![
        2 => (0u8..4, 1u64..8, shape).prop_map(|(name, pages, shape)| Step::Found { name, pages, shape }),
        1 => (0u8..6).prop_map(Step::Lost),
        3 => (0u8..4).prop_map(Step::Connect),
        1 => any::<u8>().prop_map(Step::Disconnect),
        12 => (any::<u8>(), 0u8..6, offset, length, 0u8..8).prop_map(
            |(session, region, offset, length, initiator)| Step::Map { session, region, offset, length, initiator }),
        10 => (any::<u8>(), prop::bool::weighted(0.9)).prop_map(|(which, ok)| Step::FinishCarve { which, ok }),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(session, lease)| Step::Unmap { session, lease }),
        2 => (any::<u8>(), 2u8..6, 1u64..8, sharing).prop_map(
            |(session, name, pages, sharing)| Step::Register { session, name, pages, sharing }),
        1 => (any::<u8>(), 0u8..6).prop_map(|(session, name)| Step::Unregister { session, name }),
    ];
    let drain = prop_oneof![9 => Just(None), 1 => any::<prop::sample::Index>().prop_map(Some)];
    (prop::collection::vec(step, 1..120), drain).prop_map(|(mut steps, drain)| {
        if let Some(at) = drain {
            steps.insert(at.index(steps.len()), Step::Drain);
        }
        steps
    })
}

/// What the effects and announcements, and nothing else, say the state is.
struct World {
    broker: Broker<Table>,
    sessions: BTreeMap<SessionId, Owner>,
    waiting: BTreeSet<Ticket>,
    carving: BTreeMap<LeaseId, (RegionName, ByteRange)>,
    held: BTreeSet<LeaseId>,
    regions: BTreeMap<RegionName, Region>,
    leases: BTreeMap<LeaseId, Lease>,
    /// Where a lease was carved: it counts until its session or its region goes.
    owner_of: HashMap<LeaseId, SessionId>,
    drained: bool,
    next: u64,
}

fn name(number: u8) -> RegionName {
    format!("region{number}").parse().unwrap()
}

fn spec(number: u8, pages: u64, shape: Shape, provider: ProviderKind, sharing: Sharing) -> RegionSpec {
    RegionSpec {
        name: name(number),
        provider,
        device: None,
        shape,
        size: ByteLen::new(pages * PAGE),
        alignment: ByteLen::new(PAGE),
        method: Method::Pinned,
        revocation: Revocation::Advisory,
        sharing,
    }
}

impl World {
    fn new() -> Self {
        Self {
            broker: Broker::new(Table, LIMITS),
            sessions: BTreeMap::new(),
            waiting: BTreeSet::new(),
            carving: BTreeMap::new(),
            held: BTreeSet::new(),
            regions: BTreeMap::new(),
            leases: BTreeMap::new(),
            owner_of: HashMap::new(),
            drained: false,
            next: 1,
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
        let all: Vec<_> = self.sessions.keys().copied().collect();
        if all.is_empty() { SessionId(0) } else { all[usize::from(choice) % all.len()] }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Found { name, pages, shape } => {
                self.input(Input::RegionFound(spec(
                    name,
                    pages,
                    shape,
                    ProviderKind::Emulated,
                    Sharing::Owner,
                )));
            }
            Step::Lost(number) => self.input(Input::RegionLost(name(number))),
            Step::Connect(uid) => {
                let session = SessionId(self.number());
                let owner = Owner { uid: u32::from(uid), gid: 0, pid: 1 };
                self.sessions.insert(session, owner);
                self.input(Input::Connected(session, owner));
            }
            Step::Disconnect(choice) => {
                let session = self.session(choice);
                self.sessions.remove(&session);
                self.input(Input::Disconnected(session));
            }
            Step::Map { session, region, offset, length, initiator } => {
                let (session, ticket) = (self.session(session), self.ticket());
                let extent = match offset {
                    None => Extent::Size(ByteLen::new(length)),
                    Some(offset) => match ByteRange::new(ByteLen::new(offset), ByteLen::new(length)) {
                        Some(range) => Extent::Range(range),
                        None => Extent::Whole,
                    },
                };
                let initiator = match initiator {
                    0 => "rdma:cut_off",
                    1 => "rdma:absent",
                    2 => "emulated",
                    _ => "rdma:rxe0",
                };
                let request = call::Map::new(
                    name(region),
                    extent,
                    [initiator.parse().unwrap()],
                    Direction::Bidirectional,
                );
                self.map(session, ticket, request);
            }
            Step::FinishCarve { which, ok } => {
                let all: Vec<_> = self.carving.keys().copied().collect();
                if let Some(lease) = all.get(usize::from(which) % all.len().max(1)).copied() {
                    self.finish_carve(lease, ok);
                }
            }
            Step::Unmap { session, lease } => {
                let (session, ticket) = (self.session(session), self.ticket());
                let all: Vec<_> = self.leases.keys().copied().collect();
                let lease =
                    all.get(usize::from(lease) % (all.len() + 1)).copied().unwrap_or(LeaseId::new(u64::MAX));
                let mine = self.owner_of.get(&lease) == Some(&session) && self.leases.contains_key(&lease);
                let answer = self.call(Input::Unmap(session, ticket, lease), ticket);
                assert_eq!(answer.is_ok(), mine, "{session:?} gave back {lease}: {answer:?}");
            }
            Step::Register { session, name, pages, sharing } => {
                let (session, ticket) = (self.session(session), self.ticket());
                let spec = spec(name, pages, Shape::Window, ProviderKind::Registered, sharing);
                let taken = self.regions.contains_key(&spec.name);
                let answer = self.call(Input::Register(session, ticket, spec), ticket);
                assert!(!(taken && answer.is_ok()), "a name was given twice");
            }
            Step::Unregister { session, name: number } => {
                let (session, ticket) = (self.session(session), self.ticket());
                let answer = self.call(Input::Unregister(session, ticket, name(number)), ticket);
                assert_eq!(answer.is_ok(), answer == Ok(Answer::Done));
            }
            Step::Drain => {
                self.drained = true;
                self.input(Input::Drain);
            }
        }
        self.check();
    }

    fn map(&mut self, session: SessionId, ticket: Ticket, request: call::Map) {
        let region = self.regions.get(&request.region).cloned();
        let effects = self.broker.step(Input::Map(session, ticket, request.clone()));
        match &effects[..] {
            [Effect::Carve { lease, region: from, range }] => {
                assert!(!self.drained && self.sessions.contains_key(&session));
                assert!(
                    !["rdma:cut_off", "rdma:absent"].contains(&request.initiators[0].to_string().as_str())
                );
                let region = region.unwrap();
                assert_eq!(*from, region.name);
                assert!(!range.length().is_zero() && range.length().is_aligned(region.alignment));
                assert!(range.offset().is_aligned(region.alignment) && range.end() <= region.size);
                self.owner_of.insert(*lease, session);
                assert!(
                    self.carving.insert(*lease, (from.clone(), *range)).is_none(),
                    "a lease number came twice"
                );
            }
            [Effect::Answer(answered, Err(CallError::Refusal(refusal)))] => {
                assert_eq!(*answered, ticket);
                self.waiting.remove(&ticket);
                assert_eq!(matches!(refusal, Refusal::Draining {}), self.drained);
            }
            other => panic!("a map came to {other:?}"),
        }
    }

    fn finish_carve(&mut self, lease: LeaseId, ok: bool) {
        let (region, _) = self.carving.remove(&lease).unwrap();
        if ok {
            self.held.insert(lease);
        }
        let outcome = if ok {
            Ok(())
        } else {
            Err(Fault::ProviderFailed { region, operation: "carve".to_owned(), reason: "no".to_owned() })
        };
        self.input(Input::Carved(lease, outcome));
    }

    fn call(&mut self, input: Input, ticket: Ticket) -> Result<Answer, CallError> {
        let effects = self.broker.step(input);
        let answer = effects.iter().find_map(|effect| match effect {
            Effect::Answer(answered, answer) if *answered == ticket => Some(answer.clone()),
            _ => None,
        });
        self.absorb(effects);
        answer.expect("this call is answered at once")
    }

    fn input(&mut self, input: Input) {
        let effects = self.broker.step(input);
        self.absorb(effects);
    }

    fn absorb(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Carve { .. } => panic!("carving outside of a map"),
                Effect::Release { lease, .. } => {
                    assert!(self.held.remove(&lease), "{lease} was released and not held");
                }
                Effect::Close(region) => {
                    assert!(self.regions.contains_key(&region), "{region} was closed twice");
                }
                Effect::Answer(ticket, answer) => {
                    assert!(self.waiting.remove(&ticket), "{ticket:?} was answered twice");
                    if let Ok(Answer::Granted(lease)) = answer {
                        assert_eq!(
                            self.leases.get(&lease.id),
                            Some(&lease),
                            "granted before it was announced"
                        );
                    }
                }
                Effect::Announce(Event::RegionAdded { region }) => {
                    assert!(self.regions.insert(region.name.clone(), region).is_none());
                }
                Effect::Announce(Event::RegionGone { name }) => {
                    assert!(self.regions.remove(&name).is_some());
                    assert!(self.leases.values().all(|lease| lease.region != name), "leases outlived {name}");
                }
                Effect::Announce(Event::LeaseGranted { lease }) => {
                    assert!(self.held.contains(&lease.id));
                    assert!(self.leases.insert(lease.id, lease).is_none());
                }
                Effect::Announce(Event::LeaseEnded { lease, .. }) => {
                    assert_eq!(self.leases.remove(&lease.id), Some(lease));
                }
            }
        }
    }

    /// What the broker lists is what it announced, and the sums are right.
    fn check(&self) {
        let listed: BTreeMap<_, _> = self.broker.leases().map(|lease| (lease.id, lease.clone())).collect();
        assert_eq!(listed, self.leases);
        for lease in listed.values() {
            assert!(self.sessions.contains_key(&self.owner_of[&lease.id]), "{} has no owner", lease.id);
        }
        for region in self.broker.regions() {
            let known = &self.regions[&region.name];
            assert_eq!((region.generation, region.size), (known.generation, known.size));
            let active = listed.values().filter(|lease| lease.region == region.name);
            let leased: u64 = active.clone().map(|lease| lease.length.get()).sum();
            let carving = region.leases - active.count() as u64;
            let taken = region.size.get() - region.free.get();
            match region.shape {
                Shape::Pool if carving == 0 => assert_eq!(taken, leased, "{}: the sum is wrong", region.name),
                Shape::Pool => assert!(taken > leased, "{}: what is being carved isn't counted", region.name),
                Shape::Window => assert_eq!(taken, 0),
            }
        }
        let pools = self.broker.regions().filter(|region| region.shape == Shape::Pool);
        let leased: u64 = pools.map(|region| region.size.get() - region.free.get()).sum();
        assert_eq!(self.broker.leased_from_pools(), leased, "windows count, or pools don't");
        assert_eq!(self.broker.regions().count(), self.regions.len());
        let mut per_user: BTreeMap<u32, u64> = BTreeMap::new();
        for lease in listed.values() {
            *per_user.entry(lease.owner.uid).or_default() += 1;
        }
        assert!(per_user.iter().all(|(uid, held)| *uid == 0 || *held <= LIMITS.leases_per_user));
    }

    /// When everybody has gone and every carve has ended, nothing is left.
    fn wind_up(mut self) {
        for session in std::mem::take(&mut self.sessions).into_keys() {
            self.input(Input::Disconnected(session));
        }
        for lease in self.carving.keys().copied().collect::<Vec<_>>() {
            self.finish_carve(lease, true);
        }
        self.check();
        assert!(self.held.is_empty(), "never released: {:?}", self.held);
        assert!(self.waiting.is_empty(), "never answered: {:?}", self.waiting);
        assert!(self.leases.is_empty());
        assert!(self.broker.regions().all(|region| region.owner_uid.is_none() && region.free == region.size));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_books_are_right(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.wind_up();
    }
}
