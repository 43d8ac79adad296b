//! A broker with a clock of its own, and words for what goes into it.

use std::time::Duration;

use peermem_proto::{
    ByteLen, Direction, Extent, Initiator, Lease, LeaseId, Method, Moment, Owner, PciAddress, ProviderKind,
    Refusal, Revocation, Route, Shape, Sharing, Token,
    call::{Map, Renew, Resume, ResumeReply},
    varlink::CallError,
};
use peermemd::{
    core::{
        Answer, Broker, Client, Effect, Input, Limits, MemoryId, NoRoute, Record, RegionSpec, Remembered,
        Returns, Routes, SessionId, Ticket,
    },
    policy::Policy,
};

pub(crate) const PAGE: u64 = 4096;

/// What memory leads to in these tests: the core only compares it.
pub(crate) const MEMORY: MemoryId = MemoryId { device: 1, inode: 1, offset: ByteLen::ZERO };

pub(crate) const LIMITS: Limits = Limits {
    leases_per_user: 100,
    bytes_per_user: ByteLen::new(1 << 40),
    descriptors_per_user: 4,
    revoke_grace: Duration::from_secs(30),
    resume_grace: Duration::from_secs(20),
};

/// An initiator of the daemon's, behind an IOMMU.
pub(crate) const TRANSLATED: &str = "vfio:0000:02:00.0";
/// One without an IOMMU, in the switch that the memory is in.
pub(crate) const UNTRANSLATED: &str = "vfio:0000:03:00.0";
/// One without an IOMMU, beyond the host bridge.
pub(crate) const BEYOND: &str = "vfio:0000:04:00.0";

/// Reaches everything, except for one device that is cut off and one that doesn't exist.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table;

impl Routes for Table {
    fn route(&self, _: Option<PciAddress>, initiator: &Initiator) -> Result<Route, NoRoute> {
        match initiator.to_string().as_str() {
            "rdma:cut_off" => Err(NoRoute::Blocked("a wall".to_owned())),
            "rdma:absent" => Err(NoRoute::UnknownInitiator),
            TRANSLATED => Ok(Route::Iommu {}),
            UNTRANSLATED => Ok(Route::BusAddress { acs_checked: true }),
            BEYOND => Ok(Route::HostBridge { bridge: "0000:00".to_owned(), redirected_by: Vec::new() }),
            _ => Ok(Route::Software {}),
        }
    }
}

/// Every member of this group may do all but revoke; the daemon runs as user 999.
pub(crate) const GROUP: u32 = 50;

pub(crate) fn default_policy() -> Policy {
    Policy::default_for(999, Some(GROUP))
}

pub(crate) fn client(uid: u32, pid: u32) -> Client {
    Client { owner: Owner { uid, gid: uid, pid }, gids: vec![uid, GROUP], process: Some(u64::from(pid)) }
}

pub(crate) fn pool(name: &str, pages: u64) -> RegionSpec {
    RegionSpec {
        name: name.parse().unwrap(),
        provider: ProviderKind::Emulated,
        device: None,
        incarnation: 0,
        shape: Shape::Pool,
        size: ByteLen::new(pages * PAGE),
        share: None,
        alignment: ByteLen::new(PAGE),
        method: Method::Pinned,
        revocation: Revocation::Advisory,
        sharing: Sharing::Owner,
        returns: Returns::AtOnce,
    }
}

/// A BAR of a function that gives its memory back only as a whole.
pub(crate) fn bar(name: &str, device: PciAddress, pages: u64) -> RegionSpec {
    RegionSpec {
        provider: ProviderKind::Vfio,
        device: Some(device),
        revocation: Revocation::Enforced,
        sharing: Sharing::Everyone,
        returns: Returns::InItsTime,
        ..pool(name, pages)
    }
}

pub(crate) fn window(name: &str, pages: u64) -> RegionSpec {
    RegionSpec { shape: Shape::Window, provider: ProviderKind::Registered, ..pool(name, pages) }
}

pub(crate) fn request(region: &str, pages: u64) -> Map {
    let size = Extent::Size(ByteLen::new(pages * PAGE));
    let initiator = "rdma:rxe0".parse().unwrap();
    Map::new(region.parse().unwrap(), size, [initiator], Direction::Bidirectional)
}

/// A broker and what surrounds it.
pub(crate) struct Core<R: Routes = Table> {
    pub(crate) broker: Broker<R>,
    pub(crate) now: Moment,
    /// Everything that it wanted remembered.
    pub(crate) journal: Vec<Record>,
    next: u64,
}

impl Core {
    pub(crate) fn new() -> Self {
        Self::with_policy(default_policy())
    }

    pub(crate) fn with_policy(policy: Policy) -> Self {
        Self::over(Table, policy)
    }

    /// What the next daemon takes up, with these regions and these processes.
    pub(crate) fn restarted(
        &self,
        offered: Vec<RegionSpec>,
        lives: impl Fn(&Client) -> bool,
    ) -> (Self, Vec<Effect>) {
        let mut core = Self::new();
        core.now = self.now;
        core.next = self.next;
        core.broker = Broker::new(core.now, Table, default_policy(), LIMITS, "instance".to_owned());
        let effects = core.broker.restore(Remembered::replay(self.journal.clone()), offered, lives);
        core.journal = core.broker.snapshot().collect();
        (core, effects)
    }
}

impl<R: Routes> Core<R> {
    pub(crate) fn over(routes: R, policy: Policy) -> Self {
        let now = Moment::from_millis(1_000_000);
        let broker = Broker::new(now, routes, policy, LIMITS, "instance".to_owned());
        Self { broker, now, journal: Vec::new(), next: 0 }
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.broker.step(self.now, input);
        let records = effects.iter().filter_map(|effect| match effect {
            Effect::Record(record) => Some(record.clone()),
            _ => None,
        });
        self.journal.extend(records);
        effects
    }

    /// Lets time pass, and what is due happen.
    pub(crate) fn pass(&mut self, secs: u64) -> Vec<Effect> {
        self.now = self.now.after(Duration::from_secs(secs));
        self.step(Input::Tick)
    }

    pub(crate) fn connect(&mut self, client: Client) -> SessionId {
        let session = SessionId(self.number());
        self.step(Input::Connected(session, client));
        session
    }

    /// Makes a call; what it is answered, and what else happens.
    pub(crate) fn call(
        &mut self,
        input: impl FnOnce(Ticket) -> Input,
    ) -> (Option<Result<Answer, CallError>>, Vec<Effect>) {
        let ticket = Ticket(self.number());
        let mut effects = self.step(input(ticket));
        let at = effects.iter().position(|effect| matches!(effect, Effect::Answer(t, _) if *t == ticket));
        let answer = at.map(|at| match effects.remove(at) {
            Effect::Answer(_, answer) => answer,
            _ => unreachable!(),
        });
        (answer, effects)
    }

    pub(crate) fn answer(&mut self, input: impl FnOnce(Ticket) -> Input) -> Result<Answer, Refusal> {
        self.call(input).0.expect("an answer at once").map_err(refusal)
    }

    pub(crate) fn map(&mut self, session: SessionId, request: Map) -> Result<Lease, Refusal> {
        let (answer, effects) = self.call(|ticket| Input::Map(session, ticket, request));
        if let Some(answer) = answer {
            return Err(refusal(answer.expect_err("memory out of nothing")));
        }
        let [Effect::Carve { lease, .. }] = effects[..] else { panic!("{effects:?}") };
        match self.step(Input::Carved(lease, Ok(MEMORY.into()))).pop() {
            Some(Effect::Answer(_, Ok(Answer::Granted(lease)))) => Ok(lease),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn unmap(&mut self, session: SessionId, lease: LeaseId) -> Result<Answer, Refusal> {
        self.answer(|ticket| Input::Unmap(session, ticket, lease))
    }

    pub(crate) fn renew(
        &mut self,
        session: SessionId,
        lease: LeaseId,
        secs: Option<u64>,
    ) -> Result<Lease, Refusal> {
        let request = Renew { lease, lease_secs: secs };
        match self.answer(|ticket| Input::Renew(session, ticket, request))? {
            Answer::Renewed(lease) => Ok(lease),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delegate(&mut self, session: SessionId, lease: LeaseId) -> Result<Token, Refusal> {
        let token = Token::from_random(u128::from(self.number()));
        match self.answer(|ticket| Input::Delegate(session, ticket, lease, MEMORY, token))? {
            Answer::Delegated(token) => Ok(token),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn claim(&mut self, session: SessionId, token: Token) -> Result<Lease, Refusal> {
        match self.answer(|ticket| Input::Claim(session, ticket, token))? {
            Answer::Granted(lease) => Ok(lease),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn resume(&mut self, session: SessionId, leases: &[LeaseId], regions: &[&str]) -> ResumeReply {
        let request = Resume {
            instance: "instance".to_owned(),
            leases: leases.to_vec(),
            regions: regions.iter().map(|name| name.parse().unwrap()).collect(),
        };
        match self.answer(|ticket| Input::Resume(session, ticket, request)) {
            Ok(Answer::Resumed(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.broker.leases().find(|lease| lease.id == id)
    }

    pub(crate) fn free(&self, region: &str) -> u64 {
        let found = self.broker.regions().find(|found| found.name.as_str() == region).unwrap();
        found.free.get() / PAGE
    }
}

pub(crate) fn refusal(error: CallError) -> Refusal {
    match error {
        CallError::Refusal(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}
