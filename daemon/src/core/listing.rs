//! Reading the state: nothing here changes it.

use std::ops::Bound::{Excluded, Unbounded};

use peermem_proto::{
    Lease, LeaseId, ProviderKind, Region, RegionName,
    call::{LeasePage, RegionPage},
};

use super::{Broker, Routes};

/// How many entries a page has at most. 64 of the longest leases or regions stay below half of the longest message.
const PAGE: usize = 64;

impl<R: Routes> Broker<R> {
    /// The regions whose names follow `after`, one page of them.
    pub fn list_regions(&self, after: Option<&RegionName>) -> RegionPage {
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.regions.range::<RegionName, _>((start, Unbounded));
        let regions = rest.by_ref().take(PAGE).map(|(_, region)| region.describe()).collect();
        RegionPage { regions, more: rest.next().is_some() }
    }

    /// The leases whose numbers follow `after`, one page of them. A lease that is still being carved isn't listed.
    pub fn list_leases(&self, after: Option<LeaseId>) -> LeasePage {
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.leases.range((start, Unbounded)).filter(|(_, entry)| entry.is_active());
        let leases = rest.by_ref().take(PAGE).map(|(_, entry)| entry.lease.clone()).collect();
        LeasePage { leases, more: rest.next().is_some() }
    }

    /// Every region.
    pub fn regions(&self) -> impl Iterator<Item = Region> {
        self.regions.values().map(|region| region.describe())
    }

    /// Every active lease.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.leases.values().filter(|entry| entry.is_active()).map(|entry| &entry.lease)
    }

    /// Where a region's memory comes from.
    pub fn provider_of(&self, region: &RegionName) -> Option<ProviderKind> {
        self.regions.get(region).map(|region| region.spec.provider)
    }

    /// How many leases there are.
    pub fn lease_count(&self) -> u64 {
        self.leases.len() as u64
    }

    /// How many regions there are.
    pub fn region_count(&self) -> u64 {
        self.regions.len() as u64
    }

    /// How many clients are connected.
    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64
    }

    /// Whether the daemon is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining
    }
}
