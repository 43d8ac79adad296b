//! Which devices are looked at: all of them, or one pair.

use std::collections::{BTreeMap, BTreeSet};

use peermem_proto::{Initiator, PciAddress};
use peermem_topology::{MemoryKind, PathReport, Snapshot};

/// The devices in question, and the ways between them.
pub(super) struct Scope<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) providers: BTreeMap<PciAddress, Vec<MemoryKind>>,
    pub(super) initiators: Vec<Initiator>,
    /// Every provider with every initiator that is another function.
    pub(super) pairs: Vec<PathReport>,
}

impl<'a> Scope<'a> {
    pub(super) fn whole(snapshot: &'a Snapshot) -> Self {
        Self::of(snapshot, snapshot.providers(), snapshot.initiators())
    }

    pub(super) fn pair(snapshot: &'a Snapshot, provider: PciAddress, initiator: &Initiator) -> Self {
        let kinds = snapshot.providers().remove(&provider).unwrap_or_default();
        Self::of(snapshot, [(provider, kinds)].into(), vec![initiator.clone()])
    }

    fn of(
        snapshot: &'a Snapshot,
        providers: BTreeMap<PciAddress, Vec<MemoryKind>>,
        initiators: Vec<Initiator>,
    ) -> Self {
        let mut pairs = Vec::new();
        for &provider in providers.keys() {
            let others = initiators.iter().filter(|other| snapshot.function_of(other) != Some(provider));
            pairs.extend(others.map(|initiator| snapshot.explain(provider, initiator)));
        }
        Self { snapshot, providers, initiators, pairs }
    }

    /// Every function that is a provider or an initiator.
    pub(super) fn functions(&self) -> BTreeSet<PciAddress> {
        let initiators = self.initiators.iter().filter_map(|initiator| self.snapshot.function_of(initiator));
        self.providers.keys().copied().chain(initiators).collect()
    }

    /// The pairs whose devices are both on PCI.
    pub(super) fn pci_pairs(&self) -> impl Iterator<Item = &PathReport> {
        self.pairs.iter().filter(|pair| self.snapshot.function_of(&pair.initiator).is_some())
    }

    /// The memory of one device for another: `nvme0<-mlx5_0`.
    pub(super) fn between(&self, path: &PathReport) -> String {
        let short = |address: PciAddress| {
            self.snapshot.names_at(address).first().map_or_else(|| address.to_string(), ToString::to_string)
        };
        let initiator = match &path.initiator {
            Initiator::Rdma(name) => name.to_string(),
            Initiator::Pci(address) | Initiator::Vfio(address) => short(*address),
            Initiator::Emulated => path.initiator.to_string(),
        };
        format!("{}<-{initiator}", short(path.provider))
    }

    /// A function, with what the kernel calls the devices there: `0000:01:00.0 (nvme0)`.
    pub(super) fn name(&self, address: PciAddress) -> String {
        match self.snapshot.names_at(address)[..] {
            [] => address.to_string(),
            ref names => format!("{address} ({})", names.join(", ")),
        }
    }
}

/// The first few of many, in words.
pub(super) fn some(items: impl IntoIterator<Item = String>) -> String {
    const SHOWN: usize = 4;
    let mut items: Vec<_> = items.into_iter().collect();
    let more = items.len().saturating_sub(SHOWN);
    items.truncate(SHOWN);
    let shown = items.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
