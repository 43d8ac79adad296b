//! Reading the state: nothing here changes it.

use std::ops::Bound::{Excluded, Unbounded};

use peermem_proto::{
    Lease, LeaseId, ProviderKind, Region, RegionName,
    call::{LeasePage, MOST_INITIATORS, RegionPage},
};

use super::{Broker, Routes};

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
        let mut rest = self.regions.range::<RegionName, _>((start, Unbounded));
        let regions = rest.by_ref().take(PAGE).map(|(_, region)| region.describe()).collect();
        RegionPage { regions, more: rest.next().is_some() }
    }

    /// The leases whose numbers follow `after`, one page of them. A lease that is still being carved isn't listed.
    pub fn list_leases(&self, after: Option<LeaseId>) -> LeasePage {
        let start = after.map_or(Unbounded, Excluded);
        let mut rest = self.leases.range((start, Unbounded)).filter(|(_, entry)| entry.is_active());
        let (mut leases, mut paths) = (Vec::new(), 0);
        for (_, entry) in rest.by_ref() {
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

    /// How many bytes are leased out of pools, memory that is being carved included. Windows are shared, and lose nothing.
    pub fn leased_from_pools(&self) -> u64 {
        self.regions.values().map(|region| region.spec.size.saturating_sub(region.free()).get()).sum()
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
