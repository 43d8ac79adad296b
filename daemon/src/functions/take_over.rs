//! Functions that an earlier daemon left with systemd.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use peermem_proto::{ByteRange, Initiator as Named, PciAddress, ProviderKind, RegionName};
use peermem_topology::Snapshot;

use super::{Functions, Kept, Opened};
use crate::{
    core::{LeaseRecord, Remembered},
    fd_store::FdName,
    mapper::Initiator,
    provider::vfio::{BarOf, VfioError, VfioProvider, Window},
    sys::vfio::BarIndex,
    vfio::{Descriptors, Function, Space},
    words::in_words,
};

/// What was taken over.
#[derive(Debug)]
pub struct TakenOver {
    /// As if it had been opened.
    pub opened: Opened,
    /// Initiators that leases are for and that were lost: those leases have no address any more.
    pub lost: BTreeSet<PciAddress>,
}

/// What systemd had of one function.
#[derive(Debug, Default)]
struct Parts {
    device: Option<(Option<u32>, OwnedFd)>,
    group: Option<OwnedFd>,
    container: Option<OwnedFd>,
    iommufd: Option<(u32, OwnedFd)>,
    windows: BTreeMap<BarIndex, Vec<Window>>,
}

impl Functions {
    /// Takes over what it can, out of `stored`, and has systemd drop the rest of it.
    pub fn take_over(
        &mut self,
        snapshot: &Snapshot,
        remembered: &Remembered,
        stored: &mut Vec<(FdName, OwnedFd)>,
    ) -> TakenOver {
        let mut parts = BTreeMap::<PciAddress, Parts>::new();
        let mut names = BTreeMap::<PciAddress, Vec<Kept>>::new();
        for (name, fd) in std::mem::take(stored) {
            match Kept::parse(&name) {
                Some((device, kept)) => {
                    parts.entry(device).or_default().add(kept, fd);
                    names.entry(device).or_default().push(kept);
                }
                None => stored.push((name, fd)),
            }
        }
        let mut opened = Opened::default();
        // The memory first: mappings are of memory.
        for pass in [Self::take_provider, Self::take_initiator] {
            for (&device, parts) in &mut parts {
                if let Err(why) = pass(self, snapshot, remembered, device, parts, &mut opened) {
                    tracing::warn!(%device, "{device} can't be taken over from the daemon before: {why}");
                }
            }
        }
        drop(parts);
        let lost = |device: &PciAddress| {
            !self.providers.contains_key(device) && !self.initiators.contains_key(device)
        };
        let mut waits = false;
        for (device, kept) in names.into_iter().filter(|(device, _)| lost(device)) {
            kept.into_iter().for_each(|kept| super::forget(&self.store, device, kept));
            waits = true;
        }
        // The kernel gives a function to nobody else before systemd has let go of it.
        if waits && let Err(error) = self.store.settle() {
            tracing::warn!(%error, "systemd doesn't say whether it has dropped what nobody needs");
        }
        let meant = remembered.leases.values().flat_map(|record| &record.lease.paths);
        let meant = meant.filter_map(|path| match path.initiator {
            Named::Vfio(device) => Some(device),
            _ => None,
        });
        let lost = meant.filter(|device| !self.initiators.contains_key(device)).collect();
        TakenOver { opened, lost }
    }

    fn take_provider(
        &mut self,
        snapshot: &Snapshot,
        remembered: &Remembered,
        device: PciAddress,
        parts: &mut Parts,
        opened: &mut Opened,
    ) -> Result<(), String> {
        let Some(bars) = self.rules.bars.get(&device) else { return Ok(()) };
        let leased: BTreeSet<_> =
            self.leased(remembered, device).map(|(_, bar, range)| (bar.bar, place(range))).collect();
        let known: BTreeSet<_> = parts
            .windows
            .iter()
            .flat_map(|(&bar, windows)| windows.iter().map(move |window| (bar, place(window.range))))
            .collect();
        // A window that isn't known could be lent to a second client. So could one of a BAR that isn't served any more.
        if !leased.is_subset(&known) || parts.windows.keys().any(|bar| !bars.contains_key(bar)) {
            return Err("not all that it had lent is known".to_owned());
        }
        let wanted = bars.keys().map(|&bar| (bar, parts.windows.remove(&bar).unwrap_or_default())).collect();
        let (_, descriptors) = parts.descriptors()?;
        let function =
            Function::take_over(snapshot, device, descriptors, self.rules.taking(device).without_iommu)
                .map_err(|error| in_words(&error))?;
        let served = VfioProvider::serve(function, wanted);
        let (mut provider, clearings) = served.map_err(|error: VfioError| in_words(&error))?;
        let returned = known.difference(&leased).copied().collect::<Vec<_>>();
        for (bar, (offset, length)) in returned {
            provider
                .give_back(bar, ByteRange::new(offset, length).unwrap_or_else(|| unreachable!("it was one")));
        }
        let incarnation =
            |name: &RegionName| remembered.regions.get(name).map_or(0, |region| region.spec.incarnation);
        self.serve(provider, clearings, incarnation, opened);
        Ok(())
    }

    fn take_initiator(
        &mut self,
        snapshot: &Snapshot,
        remembered: &Remembered,
        device: PciAddress,
        parts: &mut Parts,
        opened: &mut Opened,
    ) -> Result<(), String> {
        let Some(&rules) = self.rules.initiators.get(&device) else { return Ok(()) };
        let (holder, descriptors) = parts.descriptors()?;
        let function =
            Function::take_over(snapshot, device, descriptors, self.rules.taking(device).without_iommu)
                .map_err(|error| in_words(&error))?;
        let mut mapped = Vec::new();
        let mut of_leases = Vec::new();
        for (record, bar, range) in self.all_leased(remembered) {
            let paths = record.lease.paths.iter().filter(|path| path.initiator == Named::Vfio(device));
            for address in paths.filter_map(|path| path.dma.clone()) {
                let memory =
                    self.providers.get(&bar.device).and_then(|provider| provider.mappable(bar.bar, range));
                if let Some(memory) = memory {
                    mapped.push((address.iova, memory));
                    of_leases.push((record.lease.id, record.lease.owner.uid, address));
                }
            }
        }
        let initiator = Initiator::take_over(function, rules.address_bits, mapped);
        let initiator = initiator.map_err(|error| in_words(&error))?;
        self.map_for(initiator, holder, opened);
        for (lease, uid, address) in of_leases {
            self.remember(lease, uid, device, address);
        }
        Ok(())
    }

    /// Leases of a function's BARs.
    fn leased<'a>(
        &self,
        remembered: &'a Remembered,
        device: PciAddress,
    ) -> impl Iterator<Item = (&'a LeaseRecord, BarOf, ByteRange)> {
        self.all_leased(remembered).filter(move |(_, bar, _)| bar.device == device)
    }

    /// Leases of all BARs that the config names.
    fn all_leased<'a>(
        &self,
        remembered: &'a Remembered,
    ) -> impl Iterator<Item = (&'a LeaseRecord, BarOf, ByteRange)> + use<'a> {
        let bars = self.rules.bars.iter().flat_map(|(&device, bars)| {
            bars.iter().map(move |(&bar, name)| (name.clone(), BarOf { device, bar }))
        });
        let bars: BTreeMap<RegionName, BarOf> = bars.collect();
        remembered.leases.values().filter_map(move |record| {
            let region = remembered.regions.get(&record.lease.region)?;
            let bar = *bars.get(&record.lease.region)?;
            let is_of = region.spec.provider == ProviderKind::Vfio && region.spec.device == Some(bar.device);
            Some((record, bar, ByteRange::new(record.lease.offset, record.lease.length)?)).filter(|_| is_of)
        })
    }
}

impl Parts {
    fn add(&mut self, kept: Kept, fd: OwnedFd) {
        match kept {
            Kept::Device(holder) => self.device = Some((holder, fd)),
            Kept::Group => self.group = Some(fd),
            Kept::Container => self.container = Some(fd),
            Kept::Iommufd(space) => self.iommufd = Some((space, fd)),
            Kept::Window(bar, range) => {
                self.windows.entry(bar).or_default().push(Window { range, dmabuf: fd });
            }
        }
    }

    /// What the function's state lives in, with the user who may have the device too.
    fn descriptors(&mut self) -> Result<(Option<u32>, Descriptors<OwnedFd>), String> {
        let incomplete = || "systemd has not kept all of its descriptors".to_owned();
        let (holder, device) = self.device.take().ok_or_else(incomplete)?;
        let space = match (self.group.take(), self.container.take(), self.iommufd.take()) {
            (Some(group), Some(container), None) => Space::Container { group, container },
            (None, None, Some((number, fd))) => Space::Iommufd { fd, number },
            _ => return Err(incomplete()),
        };
        Ok((holder, Descriptors { device, space }))
    }
}

/// A range, to be compared.
fn place(range: ByteRange) -> (peermem_proto::ByteLen, peermem_proto::ByteLen) {
    (range.offset(), range.length())
}
