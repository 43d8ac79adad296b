//! What must hold after every step.

use super::*;

impl World {
    /// Bytes that are being carved for leases which have ended.
    pub(super) fn orphans_of(&self, region: &RegionName) -> u64 {
        // Of those that are being carved, the core's listing still counts the ones that haven't ended.
        let carving: u64 = self
            .carving
            .values()
            .filter(|(from, _)| from == region)
            .map(|(_, range)| range.length().get())
            .sum();
        let Some(listed) = self.broker.regions().find(|found| found.name == *region) else { return 0 };
        let granted: u64 = self
            .leases
            .values()
            .filter(|lease| lease.region == *region)
            .map(|lease| lease.length.get())
            .sum();
        let taken = listed.size.get() - listed.free.get() - listed.missing.get();
        if listed.shape == Shape::Window { 0 } else { carving - (taken - granted) }
    }

    /// What the broker lists is what it announced, and the sums are right.
    pub(super) fn check(&mut self) {
        self.steps += 1;
        let listed: BTreeMap<_, _> = self.broker.leases().map(|lease| (lease.id, lease.clone())).collect();
        assert_eq!(listed, self.leases);
        for lease in listed.values() {
            let session =
                self.session_of.get(&lease.id).filter(|session| self.sessions.contains_key(session));
            assert!(lease.waiting || session.is_some(), "{} has neither owner nor grace", lease.id);
            assert!(self.held.contains(&lease.id), "{} has no memory", lease.id);
            let of_bar = self.regions[&lease.region].provider == ProviderKind::Vfio;
            let told = match lease.state {
                LeaseState::Active {} => true,
                LeaseState::Revoked { reason, overdue, .. } => {
                    // Taking a BAR back hits neighbours: all but an administrator give time first.
                    lease.revocation == Revocation::Advisory
                        || of_bar && !overdue && reason != Revoked::Administrator
                }
            };
            assert!(told, "an enforced revocation was only told");
            let unhindered = lease.paths.iter().any(|path| path.initiator.to_string() == UNTRANSLATED);
            assert!(!unhindered || lease.revocation == Revocation::Advisory, "nothing can enforce it");
        }
        let mut seen = std::mem::take(&mut self.seen);
        self.check_regions(&listed, &mut seen);
        self.seen = seen;
        self.check_users(&listed);
        if self.steps.is_multiple_of(8) {
            let now = Remembered::replay(self.broker.snapshot());
            let journal = (&self.journal.regions, &self.journal.leases);
            assert_eq!(journal, (&now.regions, &now.leases), "the journal tells another story");
        }
    }

    pub(super) fn check_regions(&self, listed: &BTreeMap<LeaseId, Lease>, seen: &mut BTreeSet<&'static str>) {
        for region in self.broker.regions() {
            let known = &self.regions[&region.name];
            assert_eq!((region.generation, region.size), (known.generation, known.size));
            let granted = listed.values().filter(|lease| lease.region == region.name);
            let leased: u64 = granted.clone().map(|lease| lease.length.get()).sum();
            let carving = region.leases - granted.count() as u64;
            if region.shape == Shape::Window {
                assert_eq!(region.free, region.size);
                continue;
            }
            if !region.missing.is_zero() {
                seen.insert("missing");
            }
            assert!(
                leased + region.missing.get() <= region.size.get(),
                "{}: more than there is",
                region.name
            );
            let taken = region.size.get() - region.free.get() - region.missing.get();
            match carving {
                0 => assert_eq!(taken, leased, "{}: the sum is wrong", region.name),
                _ => assert!(taken > leased, "{}: what is being carved isn't counted", region.name),
            }
        }
        assert_eq!(self.broker.regions().count(), self.regions.len());
    }

    pub(super) fn check_users(&self, listed: &BTreeMap<LeaseId, Lease>) {
        let policy = policy(self.which_policy);
        let mut usage = Usage::default();
        let mut held: BTreeMap<u32, u64> = BTreeMap::new();
        let carving = self.broker.lease_count() - listed.len() as u64;
        for lease in listed.values() {
            *held.entry(lease.owner.uid).or_default() += 1;
            let initiators: Vec<_> = lease.paths.iter().map(|path| path.initiator.clone()).collect();
            let actor = Actor { uid: lease.owner.uid, gids: &[] };
            if let Ok(allowed) = policy.decide(actor, Action::Map, Some(&lease.region), &initiators) {
                let _ = usage.add(&allowed, lease.length);
            }
        }
        if carving == 0 {
            assert_eq!(*self.broker.usage(), usage, "by rule");
            let counted: BTreeMap<_, _> = self
                .broker
                .users()
                .map(|(uid, held)| (uid, held.leases))
                .filter(|(_, leases)| *leases > 0)
                .collect();
            assert_eq!(counted, held, "by user");
        }
    }

    /// When everybody has gone and every carve has ended, nothing is left.
    pub(crate) fn wind_up(mut self) -> BTreeSet<&'static str> {
        for session in std::mem::take(&mut self.sessions).into_keys() {
            self.input(Input::Disconnected(session));
        }
        for lease in self.carving.keys().copied().collect::<Vec<_>>() {
            self.finish_carve(lease, true);
        }
        self.now = self.now.after(TIGHT.resume_grace);
        self.input(Input::Tick);
        self.check();
        assert!(self.held.is_empty(), "never released: {:?}", self.held);
        assert!(self.waiting.is_empty(), "never answered: {:?}", self.waiting);
        assert!(self.leases.is_empty() && self.tokens.is_empty());
        assert!(self.broker.users().count() == 0, "{:?}", self.broker.users().collect::<Vec<_>>());
        for region in self.broker.regions() {
            assert_eq!((region.owner_uid, region.leases), (None, 0));
            assert!(
                region.shape == Shape::Window
                    || region.free.get() + region.missing.get() == region.size.get()
            );
        }
        assert!(self.broker.next_deadline().is_none(), "something is still to come");
        self.seen
    }
}
