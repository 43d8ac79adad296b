//! Reading the state: nothing here changes it.

use std::ops::Bound::{Excluded, Unbounded};

use peermem_proto::{
    ByteLen, Initiator, Lease, LeaseId, PciAddress, ProviderKind, Region, RegionName, Route,
    call::{LeasePage, MOST_INITIATORS, RegionPage},
};

use super::{
    Broker, Findings, Held, RegionSpec, Routes,
    book::{Entry, Stage},
};
use crate::policy::{Policy, Usage};

/// How many regions a page has at most: 64 of the longest stay below half of the longest message.
const PAGE: usize = 64;

/// How many paths the leases of a page have at most. A lease has one for each initiator, and they are most of its length.
/// One lease always fits: it has no more than that.
const PATHS: usize = 32;

const _: () = assert!(PATHS >= MOST_INITIATORS);

impl<R: Routes> Broker<R> {
    /// The regions whose names follow `after`, one page of them.
    pub fn list_regions(&self, after: Option<&RegionName>) -> RegionPage {
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.book.regions.range::<RegionName, _>((start, Unbounded));
        let regions = rest.by_ref().take(PAGE).map(|(_, region)| region.describe()).collect();
        RegionPage { regions, more: rest.next().is_some() }
    }

    /// The leases whose numbers follow `after`, one page of them. A lease that is still being carved isn't listed.
    pub fn list_leases(&self, after: Option<LeaseId>) -> LeasePage {
        let (mut leases, mut paths) = (Vec::new(), 0);
        for entry in self.book.leases_after(after).filter(|entry| entry.is_granted()) {
            paths += entry.lease.paths.len();
            if paths > PATHS {
                return LeasePage { leases, more: true };
            }
            leases.push(entry.lease.clone());
        }
        LeasePage { leases, more: false }
    }

    /// Every region.
    pub fn regions(&self) -> impl Iterator<Item = Region> {
        self.book.regions.values().map(|region| region.describe())
    }

    /// Every region, and the sum of its leases' lengths.
    pub fn regions_and_leased(&self) -> impl Iterator<Item = (Region, u128)> {
        self.book.regions.values().map(|region| (region.describe(), region.leased))
    }

    /// The way between a device's memory and an initiator, if there is one.
    pub fn route(&self, provider: Option<PciAddress>, initiator: &Initiator) -> Option<Route> {
        self.routes.route(provider, initiator).ok()
    }

    /// What self-tests found.
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    /// What providers of a kind have offered.
    pub fn specs_of(&self, provider: ProviderKind) -> Vec<RegionSpec> {
        let specs = self.book.regions.values().map(|region| &region.spec);
        specs.filter(|spec| spec.provider == provider).cloned().collect()
    }

    /// Every lease that a client has.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.granted().map(|entry| &entry.lease)
    }

    /// The region of a granted lease, and where the lease begins in what its descriptor leads to.
    pub fn memory_of(&self, lease: LeaseId) -> Option<(&RegionName, ByteLen)> {
        let entry = self.book.lease(lease)?;
        let Stage::Granted(memory) = entry.stage else { return None };
        Some((&entry.lease.region, memory.offset))
    }

    fn granted(&self) -> impl Iterator<Item = &Entry> {
        self.book.leases().filter(|entry| entry.is_granted())
    }

    /// Where a region's memory comes from.
    pub fn provider_of(&self, region: &RegionName) -> Option<ProviderKind> {
        self.book.regions.get(region).map(|region| region.spec.provider)
    }

    /// How many leases there are, those that are being carved included.
    pub fn lease_count(&self) -> u64 {
        self.book.leases().len() as u64
    }

    /// How many leases wait for their clients to come back.
    pub fn waiting_count(&self) -> u64 {
        self.book.waiting()
    }

    /// How many revoked leases are still with their clients, past the time to let go.
    pub fn overdue_count(&self) -> u64 {
        self.book.overdue()
    }

    /// How many bytes are leased out of pools, memory that is being carved included. Windows are shared, and lose nothing.
    pub fn leased_from_pools(&self) -> u64 {
        let pools =
            self.book.regions.values().filter(|region| region.spec.shape == peermem_proto::Shape::Pool);
        pools.map(|region| u64::try_from(region.leased).unwrap_or(u64::MAX)).sum()
    }

    /// How many regions there are.
    pub fn region_count(&self) -> u64 {
        self.book.regions.len() as u64
    }

    /// How many clients are connected.
    pub fn session_count(&self) -> u64 {
        self.book.sessions.len() as u64
    }

    /// What every user holds that holds anything, by user id.
    pub fn users(&self) -> impl Iterator<Item = (u32, Held)> {
        self.book.users.all()
    }

    /// What users hold by the rules of the policy.
    pub fn usage(&self) -> &Usage {
        &self.book.usage
    }

    /// The policy that counts.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Names this table of leases.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether the daemon is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }
}
