//! Mappings, claims, and what a restart does.

use super::*;

impl World {
    pub(super) fn map(
        &mut self,
        session: SessionId,
        region: u8,
        offset: Option<u64>,
        length: u64,
        initiator: u8,
        secs: Option<u8>,
    ) {
        let ticket = self.ticket();
        let extent = match offset {
            None => Extent::Size(ByteLen::new(length)),
            Some(offset) => match ByteRange::new(ByteLen::new(offset), ByteLen::new(length)) {
                Some(range) => Extent::Range(range),
                None => Extent::Whole,
            },
        };
        let initiator: Initiator = match initiator {
            0 => "rdma:cut_off",
            1 => "rdma:absent",
            2 => "emulated",
            3 => TRANSLATED,
            4 => UNTRANSLATED,
            5 => BEYOND,
            _ => "rdma:rxe0",
        }
        .parse()
        .unwrap();
        let mut request = call::Map::new(name(region), extent, [initiator.clone()], Direction::Bidirectional);
        request.lease_secs = secs.map(u64::from);
        let region = self.regions.get(&request.region).cloned();
        let effects = self.broker.step(self.now, Input::Map(session, ticket, request));
        match &effects[..] {
            [Effect::Carve { lease, region: from, range, .. }] => {
                assert!(!self.drained && self.sessions.contains_key(&session));
                assert!(!["rdma:cut_off", "rdma:absent", BEYOND].contains(&initiator.to_string().as_str()));
                let region = region.unwrap();
                assert_eq!(*from, region.name);
                assert!(!range.length().is_zero() && range.length().is_aligned(region.alignment));
                assert!(range.offset().is_aligned(region.alignment) && range.end() <= region.size);
                self.session_of.insert(*lease, session);
                let twice = self.carving.insert(*lease, (from.clone(), *range));
                assert!(twice.is_none() && !self.leases.contains_key(lease), "a lease number came twice");
            }
            [Effect::Answer(answered, Err(CallError::Refusal(refusal)))] => {
                assert_eq!(*answered, ticket);
                self.waiting.remove(&ticket);
                assert_eq!(matches!(refusal, Refusal::Draining {}), self.drained);
            }
            other => panic!("a map came to {other:?}"),
        }
    }

    pub(super) fn claim(&mut self, session: SessionId, choice: u8) {
        let token = choose(self.tokens.keys(), choice).unwrap_or(Token::from_random(0));
        let lease = self.tokens.get(&token).copied();
        let answer = self.call(|ticket| Input::Claim(session, ticket, token));
        if let Ok(answer) = answer {
            let lease = lease.expect("a lease behind a token that isn't good");
            assert!(!self.drained && self.tokens.remove(&token).is_some(), "its memory was forgotten");
            self.session_of.insert(lease, session);
            assert_eq!(self.leases[&lease].owner, self.sessions[&session].owner);
            assert_eq!(answer, Answer::Granted(self.leases[&lease].clone()));
        }
    }

    pub(super) fn restart(&mut self, dead: u8) {
        // What the daemon was carving is gone with it, unheard of.
        self.carving.clear();
        self.waiting.clear();
        self.tokens.clear();
        self.session_of.clear();
        self.drained = false;
        let is_dead = |client: &Client| dead & (1 << (client.owner.pid % 8)) != 0;
        let lives = |client: &Client| !is_dead(client);
        let remembered = self.journal.clone();
        self.broker = Broker::new(self.now, Table, policy(self.which_policy), TIGHT, "instance".to_owned());
        let offered: Vec<_> = self.offered.values().cloned().collect();
        // No memory but that of leases that are remembered is held by anybody.
        self.held = remembered.leases.keys().copied().collect();
        let unchanged: BTreeSet<_> = offered
            .iter()
            .filter(|spec| {
                remembered.regions.get(&spec.name).is_some_and(|earlier| spec.is_still(&earlier.spec))
            })
            .map(|spec| spec.name.clone())
            .collect();
        self.regions.retain(|name, _| unchanged.contains(name));
        for lease in self.leases.values_mut() {
            lease.waiting = true;
        }
        let owners: HashMap<_, _> =
            remembered.regions.iter().map(|(name, region)| (name.clone(), region.owner.clone())).collect();
        self.regions.retain(|name, _| owners[name].as_ref().is_none_or(lives));
        let effects = self.broker.restore(remembered, offered, lives);
        self.journal = Remembered::nothing();
        for effect in effects {
            match effect {
                // Said of regions and leases that aren't taken up at all.
                Effect::Close(name) => drop(self.offered.remove(&name)),
                Effect::Announce(Event::LeaseEnded {
                    lease,
                    reason: LeaseEnd::RegionGone | LeaseEnd::OwnerGone,
                }) if self.broker.leases().all(|listed| listed.id != lease.id) => {
                    assert!(self.leases.remove(&lease.id).is_some());
                    self.held.remove(&lease.id);
                }
                other => self.absorb_one(other),
            }
        }
        self.journal = Remembered::replay(self.broker.snapshot());
        if self.leases.values().any(|lease| lease.waiting) {
            self.seen.insert("waited");
        }
        // Only the living connect again.
        let clients: Vec<_> =
            std::mem::take(&mut self.sessions).into_values().filter(|client| lives(client)).collect();
        for client in clients {
            let session = SessionId(self.number());
            self.sessions.insert(session, client.clone());
            self.input(Input::Connected(session, client));
        }
    }

    pub(super) fn resume(&mut self, session: SessionId) {
        let Some(client) = self.sessions.get(&session).cloned() else { return };
        let leases: Vec<_> = self.leases.keys().copied().collect();
        let regions: Vec<_> = self.regions.keys().cloned().collect();
        let request = call::Resume { instance: "instance".to_owned(), leases, regions };
        let mine: BTreeSet<_> = self
            .leases
            .values()
            .filter(|lease| lease.owner == client.owner && (lease.waiting || self.is_mine(session, lease.id)))
            .map(|lease| lease.id)
            .collect();
        let reply = match self.call(|ticket| Input::Resume(session, ticket, request)) {
            Ok(Answer::Resumed(reply)) => reply,
            other => {
                assert_eq!(other, Err(Refusal::Draining {}.into()));
                return assert!(self.drained, "a resumption was refused");
            }
        };
        let lost: BTreeSet<_> = reply.lost_leases.into_iter().collect();
        let kept: BTreeSet<_> = self.leases.keys().copied().filter(|id| !lost.contains(id)).collect();
        assert_eq!(kept, mine);
        for lease in mine {
            self.session_of.insert(lease, session);
        }
    }

    pub(super) fn finish_carve(&mut self, lease: LeaseId, ok: bool) {
        let (region, _) = self.carving.remove(&lease).unwrap();
        if ok {
            self.held.insert(lease);
        }
        let outcome = if ok {
            Ok(MEMORY.into())
        } else {
            let (operation, reason) = ("carve".to_owned(), "no".to_owned());
            Err(Fault::ProviderFailed { region, operation, reason }.into())
        };
        self.input(Input::Carved(lease, outcome));
    }
}
