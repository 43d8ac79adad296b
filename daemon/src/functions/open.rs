//! Functions that are there and not owned yet: at start, and when they are plugged in.

use std::collections::BTreeSet;

use peermem_proto::{
    ByteLen, Initiator as Named, Method, PciAddress, ProviderKind, Refusal, RegionName, Revocation, Shape,
    Sharing,
};
use peermem_topology::Snapshot;

use super::{Driven, Functions, refuse};
use crate::{
    core::{RegionSpec, Returns},
    mapper::{Initiator, InitiatorError},
    provider::vfio::{BarOf, Clearing, VfioError, VfioProvider},
    vfio::Rules,
    words::in_words,
};

/// A region that can be offered.
#[derive(Debug)]
pub struct Offer {
    /// What it is.
    pub spec: RegionSpec,
    /// Where it is.
    pub bar: BarOf,
}

/// What has come into the daemon's hands.
#[derive(Debug, Default)]
pub struct Opened {
    /// Regions; nothing of them is free before it is cleared.
    pub offers: Vec<Offer>,
    /// What is to be cleared.
    pub clearings: Vec<(PciAddress, Clearing)>,
    /// Every function, to be watched.
    pub functions: Vec<PciAddress>,
    /// Whether there is one that isn't ready: its driver or its file's owner may still change.
    pub unready: bool,
}

impl Functions {
    /// Whether every function that the config names is owned.
    pub fn are_complete(&self) -> bool {
        let Rules { bars, initiators, no_iommu: _, backend: _ } = &self.rules;
        bars.keys().all(|device| self.providers.contains_key(device))
            && initiators.keys().all(|device| self.initiators.contains_key(device))
    }

    /// Takes every function that the config names, is there, and isn't owned yet.
    pub fn open(&mut self, snapshot: &Snapshot) -> Opened {
        let mut opened = Opened::default();
        for (device, bars) in self.rules.bars.clone() {
            if self.providers.contains_key(&device) || !snapshot.functions.contains_key(&device) {
                continue;
            }
            let indices: BTreeSet<_> = bars.keys().copied().collect();
            match VfioProvider::open(snapshot, device, &indices, self.rules.taking(device)) {
                Ok((provider, clearings)) => {
                    let incarnation = fresh_incarnation();
                    self.serve(provider, clearings, |_| incarnation, &mut opened);
                }
                Err(error) => {
                    let may_pass =
                        matches!(&error, VfioError::Open(error) if error.may_pass() || error.is_in_use());
                    opened.unready |= may_pass;
                    for name in bars.into_values() {
                        self.complain(&name, &error);
                    }
                }
            }
        }
        for (device, rules) in self.rules.initiators.clone() {
            if self.initiators.contains_key(&device) || !snapshot.functions.contains_key(&device) {
                continue;
            }
            match Initiator::open(snapshot, device, rules.address_bits, self.rules.taking(device)) {
                Ok(initiator) => self.map_for(initiator, None, &mut opened),
                Err(error) => {
                    opened.unready |= matches!(&error, InitiatorError::Open(error) if error.may_pass());
                    self.leave_idle(device, &error);
                }
            }
        }
        opened
    }

    /// A provider in the daemon's hands, and the regions that it offers.
    pub(super) fn serve(
        &mut self,
        provider: VfioProvider,
        clearings: Vec<Clearing>,
        incarnation: impl Fn(&RegionName) -> u64,
        opened: &mut Opened,
    ) {
        let device = provider.function().address();
        self.keep_function(provider.function(), None);
        for (&bar, name) in self.rules.bars.get(&device).into_iter().flatten() {
            let Some(size) = provider.size(bar) else { continue };
            self.unserved.remove(name);
            let spec = spec(name.clone(), device, size, incarnation(name));
            opened.offers.push(Offer { spec, bar: BarOf { device, bar } });
        }
        opened.clearings.extend(clearings.into_iter().map(|clearing| (device, clearing)));
        opened.functions.push(device);
        self.providers.insert(device, provider);
    }

    /// An initiator in the daemon's hands.
    pub(super) fn map_for(&mut self, initiator: Initiator, holder: Option<u32>, opened: &mut Opened) {
        let device = initiator.address();
        tracing::info!(%device, "{} is mapped for", Named::Vfio(device));
        self.keep_function(initiator.function(), holder);
        self.idle.remove(&device);
        opened.functions.push(device);
        self.initiators.insert(device, Driven::new(initiator, holder));
    }

    /// Says once why an initiator isn't the daemon's, and remembers it for those who ask.
    pub(super) fn leave_idle(&mut self, device: PciAddress, error: &InitiatorError) {
        let initiator = Named::Vfio(device);
        let why = refuse::no_initiator(initiator.clone(), error);
        if self.idle.get(&device) == Some(&why) {
            return;
        }
        tracing::warn!(%device, "nothing is mapped for {initiator}: {}", in_words(error));
        if matches!(why, Refusal::InitiatorTaken { .. }) {
            self.held.push(device);
        }
        self.idle.insert(device, why);
    }

    /// Says once why a region isn't served, and remembers it for those who ask.
    fn complain(&mut self, region: &RegionName, error: &VfioError) {
        let why = refuse::not_served(region.clone(), error);
        if self.unserved.insert(region.clone(), why.clone()).as_ref() != Some(&why) {
            tracing::warn!(%region, "{why}");
        }
    }
}

fn spec(name: RegionName, device: PciAddress, size: ByteLen, incarnation: u64) -> RegionSpec {
    RegionSpec {
        name,
        provider: ProviderKind::Vfio,
        device: Some(device),
        incarnation,
        shape: Shape::Pool,
        size,
        share: None,
        alignment: ByteLen::from_usize(rustix::param::page_size()),
        method: Method::Dmabuf,
        revocation: Revocation::Enforced,
        sharing: Sharing::Everyone,
        returns: Returns::InItsTime,
    }
}

/// Tells a function that was opened now from what it was before: opening resets it. No two are opened in one nanosecond.
fn fresh_incarnation() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let [secs, nanos] = [now.tv_sec, now.tv_nsec].map(|part| u64::try_from(part).unwrap_or_default());
    secs.saturating_mul(1_000_000_000).saturating_add(nanos)
}
