//! The gauges, set from the state when somebody asks.

use std::collections::BTreeMap;

use peermem_proto::{
    ByteLen, Initiator, Lease, LeaseState, Method, OnDemandFinding, ProviderKind, RegionName,
};

use super::{MOST_USERS, Metrics, route_label};
use crate::core::{Broker, Routes};

/// What is seen of the daemon beside the core.
#[derive(Debug, Clone, Copy, Default)]
pub struct Observed {
    /// Clients that watch.
    pub watchers: u64,
    /// Registered dma-bufs that are kept.
    pub dmabufs: u64,
    /// Their bytes.
    pub dmabuf_bytes: u64,
    /// Descriptors behind tokens.
    pub delegated: u64,
}

impl Metrics {
    /// Sets the gauges. `devices` are the node's RDMA devices.
    pub fn observe<R: Routes>(&self, broker: &Broker<R>, beside: Observed, devices: &[Initiator]) {
        self.observe_regions(broker, devices);
        self.observe_leases(broker);
        self.observe_users(broker);
        self.observe_findings(broker);
        self.connections.set(count(broker.session_count()));
        self.watchers.set(count(beside.watchers));
        self.descriptors.with_label_values(&["dmabuf"]).set(count(beside.dmabufs));
        self.descriptors.with_label_values(&["delegated"]).set(count(beside.delegated));
        self.dmabuf_bytes.with_label_values::<&str>(&[]).set(as_float(beside.dmabuf_bytes.into()));
    }

    /// Sets the gauges of what the daemon owns through vfio-pci: the largest free pieces of regions, the mappings of initiators.
    pub fn observe_functions(
        &self,
        largest: impl Iterator<Item = (RegionName, ByteLen)>,
        mappings: impl Iterator<Item = (Initiator, usize)>,
    ) {
        self.region_largest.reset();
        self.initiator_mappings.reset();
        let provider = ProviderKind::Vfio.to_string();
        for (region, bytes) in largest {
            let labels = [region.as_str(), &provider];
            self.region_largest.with_label_values(&labels).set(as_float(bytes.get().into()));
        }
        for (initiator, mapped) in mappings {
            let gauge = self.initiator_mappings.with_label_values(&[&initiator.to_string()]);
            gauge.set(count(mapped as u64));
        }
    }

    fn observe_regions<R: Routes>(&self, broker: &Broker<R>, devices: &[Initiator]) {
        self.regions.reset();
        self.routes.reset();
        for gauge in [&self.region_size, &self.region_free, &self.region_leased, &self.region_missing] {
            gauge.reset();
        }
        for (region, leased) in broker.regions_and_leased() {
            let provider = region.provider.to_string();
            self.regions.with_label_values(&[&provider]).inc();
            let labels = [region.name.as_str(), &provider];
            self.region_size.with_label_values(&labels).set(as_float(region.size.get().into()));
            self.region_free.with_label_values(&labels).set(as_float(region.free.get().into()));
            self.region_leased.with_label_values(&labels).set(as_float(leased));
            self.region_missing.with_label_values(&labels).set(as_float(region.missing.get().into()));
            for device in devices {
                let route = broker.route(region.device, device);
                self.routes.with_label_values(&[route.as_ref().map_or("none", route_label)]).inc();
            }
        }
    }

    fn observe_leases<R: Routes>(&self, broker: &Broker<R>) {
        self.leases.reset();
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for lease in broker.leases() {
            *counts.entry((broker.provider_of(&lease.region), method(lease), state(lease))).or_default() += 1;
        }
        for ((provider, method, state), leases) in counts {
            let provider = provider.map_or_else(|| "gone".to_owned(), |provider| provider.to_string());
            self.leases.with_label_values(&[provider.as_str(), method, state]).set(count(leases));
        }
    }

    fn observe_users<R: Routes>(&self, broker: &Broker<R>) {
        self.user_leases.reset();
        self.user_leased.reset();
        let mut users: Vec<_> = broker.users().filter(|(_, held)| held.leases > 0).collect();
        users.sort_by_key(|(uid, held)| (std::cmp::Reverse(held.bytes), *uid));
        for (place, (uid, held)) in users.into_iter().enumerate() {
            let uid = if place < MOST_USERS { uid.to_string() } else { "other".to_owned() };
            self.user_leases.with_label_values(&[&uid]).add(count(held.leases));
            self.user_leased.with_label_values(&[&uid]).add(as_float(held.bytes));
        }
        let mut rules: BTreeMap<_, (u64, u128)> = BTreeMap::new();
        for (rule, _, held) in broker.usage().iter() {
            let sum = rules.entry(rule.as_str()).or_default();
            *sum = (sum.0 + held.leases, sum.1 + held.bytes);
        }
        self.rule_leases.reset();
        self.rule_leased.reset();
        for (rule, (leases, bytes)) in rules {
            self.rule_leases.with_label_values(&[rule]).set(count(leases));
            self.rule_leased.with_label_values(&[rule]).set(as_float(bytes));
        }
    }

    fn observe_findings<R: Routes>(&self, broker: &Broker<R>) {
        self.selftest_devices.reset();
        self.selftest_lost.reset();
        for (device, found) in broker.findings().devices() {
            let on_demand = match found.on_demand {
                OnDemandFinding::Unsupported {} => "unsupported",
                OnDemandFinding::Sound {} => "sound",
                OnDemandFinding::PageAlignedOnly { .. } => "page_aligned_only",
                OnDemandFinding::Broken { .. } => "broken",
            };
            let dmabuf = if found.dmabuf { "true" } else { "false" };
            self.selftest_devices.with_label_values(&[device.as_str(), on_demand, dmabuf]).set(1);
        }
        for (provider, initiator) in broker.findings().lost() {
            self.selftest_lost.with_label_values(&[&provider.to_string(), &initiator.to_string()]).set(1);
        }
    }
}

pub(super) fn method(lease: &Lease) -> &'static str {
    match lease.method {
        Method::Dmabuf => "dmabuf",
        Method::OnDemand => "on_demand",
        Method::Pinned => "pinned",
    }
}

fn state(lease: &Lease) -> &'static str {
    match lease.state {
        LeaseState::Revoked { overdue: true, .. } => "overdue",
        LeaseState::Revoked { overdue: false, .. } => "revoked",
        LeaseState::Active {} if lease.waiting => "waiting",
        LeaseState::Active {} => "active",
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Exact up to 8 PiB.
#[allow(clippy::cast_precision_loss)]
fn as_float(bytes: u128) -> f64 {
    bytes as f64
}
