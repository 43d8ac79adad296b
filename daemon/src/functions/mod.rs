//! The PCI functions that the daemon owns through vfio-pci: those whose memory it serves, and those that it maps memory for.
//!
//! Both kinds outlive the process: systemd keeps their descriptors, and a later daemon goes on where this one stopped. What a
//! descriptor is of, its name in the store says, so that there is nothing else to remember.
//!
//! **Invariant:** who drives an initiator reaches all that is mapped for it. So while one user has its device, or may have it
//! still, nothing of another user's is mapped for it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use peermem_proto::{
    ByteLen, ByteRange, DmaAddr, Fault, Initiator as Named, LeaseId, PciAddress, Refusal, RegionName,
    varlink::CallError,
};

use crate::{
    core::Reach,
    fd_store::FdStore,
    mapper::{Initiator, Place, UnmapError},
    provider::{
        Carved,
        vfio::{BarOf, Cleared, Clearing, VfioProvider, Window},
    },
    ranges::Figures,
    vfio::{Descriptors, Function, Rules, Space},
};
use rustix::io::Errno;

mod kept;
mod open;
mod refuse;
mod revoke;
mod take_over;

use kept::Kept;
pub use open::{Offer, Opened};
pub use revoke::TakenBack;
pub use take_over::TakenOver;

/// All functions that the daemon owns, or should.
#[derive(Debug)]
pub struct Functions {
    rules: Rules,
    store: FdStore,
    providers: BTreeMap<PciAddress, VfioProvider>,
    /// Providers whose leases have ended and whose memory is being taken back.
    revoking: BTreeSet<PciAddress>,
    initiators: BTreeMap<PciAddress, Driven>,
    /// What a lease has mapped for initiators. One that has nothing isn't here.
    mapped: HashMap<LeaseId, Mapped>,
    /// Regions and initiators that the config names and that aren't served, and why.
    unserved: BTreeMap<RegionName, Refusal>,
    idle: BTreeMap<PciAddress, Refusal>,
    reopened: Vec<PciAddress>,
    /// Initiators that were to be opened, and that someone has.
    held: Vec<PciAddress>,
}

/// An initiator, who may have its device, and for whom how much is mapped.
#[derive(Debug)]
struct Driven {
    initiator: Initiator,
    holder: Option<u32>,
    users: BTreeMap<u32, usize>,
}

impl Driven {
    fn new(initiator: Initiator, holder: Option<u32>) -> Self {
        Self { initiator, holder, users: BTreeMap::new() }
    }

    /// One mapping less of this user's.
    fn less(&mut self, uid: u32) {
        if let Entry::Occupied(mut count) = self.users.entry(uid) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[derive(Debug)]
struct Mapped {
    uid: u32,
    addresses: Vec<DmaAddr>,
}

/// What a lease asks of a BAR.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The region.
    pub region: &'a RegionName,
    /// For this lease.
    pub lease: LeaseId,
    /// So much.
    pub length: ByteLen,
    /// Who reaches it.
    pub reach: &'a Reach,
}

impl Functions {
    /// None yet of those that the rules name.
    pub fn new(rules: Rules, store: FdStore) -> Self {
        Self {
            rules,
            store,
            providers: BTreeMap::new(),
            revoking: BTreeSet::new(),
            initiators: BTreeMap::new(),
            mapped: HashMap::new(),
            unserved: BTreeMap::new(),
            idle: BTreeMap::new(),
            reopened: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Why a region that the config names isn't there.
    pub fn why_not_served(&self, region: &RegionName) -> Option<&Refusal> {
        self.unserved.get(region)
    }

    /// Lends a window, and maps it for the initiators.
    ///
    /// # Errors
    /// A refusal of the window, of an initiator or of an address; nothing is mapped then, and a window comes back by
    /// [`Functions::settle`].
    pub fn carve(&mut self, bar: BarOf, wanted: &Wanted<'_>) -> Result<Carved, CallError> {
        let &Wanted { region, lease, length, reach } = wanted;
        for (device, _) in &reach.initiators {
            self.check(*device, reach)?;
        }
        let provider = self.providers.get_mut(&bar.device).filter(|_| !self.revoking.contains(&bar.device));
        let provider = provider.ok_or_else(|| {
            let why = format!("the memory of {} is being taken back from its users", bar.device);
            Refusal::NotServed { region: region.clone(), why }
        })?;
        let page = ByteLen::from_usize(rustix::param::page_size());
        let window = provider.carve(bar.bar, length, page);
        let Window { range, dmabuf } = window.map_err(|error| refuse::no_window(region, length, &error))?;
        let given = self.map_for_all(bar, range, wanted).and_then(|()| self.give_device(reach));
        match given {
            Ok(device) => {
                self.store_window(bar, range, dmabuf.as_fd());
                let addresses = self.mapped.get(&lease).map(|mapped| mapped.addresses.clone());
                Ok(Carved {
                    fd: dmabuf,
                    offset: ByteLen::ZERO,
                    place: Some(range.offset()),
                    addresses: addresses.unwrap_or_default(),
                    device,
                })
            }
            Err(error) => {
                self.release(lease, bar, range);
                Err(error)
            }
        }
    }

    /// Ends a loan: unmaps it everywhere. The window is lent again after [`Functions::settle`] and a clearing.
    pub fn release(&mut self, lease: LeaseId, bar: BarOf, range: ByteRange) {
        self.unmap(lease);
        if let Some(provider) = self.providers.get_mut(&bar.device) {
            provider.give_back(bar.bar, range);
        }
    }

    fn unmap(&mut self, lease: LeaseId) {
        let Some(mut mapped) = self.mapped.remove(&lease) else { return };
        mapped.addresses.retain(|address| {
            let Named::Vfio(device) = address.initiator else { return false };
            let Some(driven) = self.initiators.get_mut(&device) else { return false };
            let unmapped = driven.initiator.unmap(address);
            if let Err(error) = &unmapped {
                // The mapping's hold on the memory stays as well, so that nobody else gets it, nor the initiator.
                tracing::error!(%lease, %error, "{address} stays mapped: its memory is lent to nobody else");
            }
            let stays = matches!(unmapped, Err(UnmapError::Partly { .. } | UnmapError::Kernel { .. }));
            if !stays {
                driven.less(mapped.uid);
            }
            stays
        });
        if !mapped.addresses.is_empty() {
            self.mapped.insert(lease, mapped);
        }
    }

    /// Takes every mapping away.
    pub fn unmap_all(&mut self) {
        for lease in self.mapped.keys().copied().collect::<Vec<_>>() {
            self.unmap(lease);
        }
    }

    /// What came back and nobody has any more, to be cleared; and whether there is more to wait for.
    pub fn settle(&mut self, device: PciAddress) -> (Vec<Clearing>, bool) {
        let Some(provider) = self.providers.get_mut(&device) else { return (Vec::new(), false) };
        for (bar, range) in provider.only_stored() {
            forget(&self.store, device, Kept::Window(bar, range));
        }
        (provider.settle(), provider.has_returned())
    }

    /// Takes cleared memory back into use. Returns how much of it can be leased again.
    pub fn cleared(&mut self, device: PciAddress, cleared: Cleared) -> ByteLen {
        let length = cleared.length();
        let provider = self.providers.get_mut(&device);
        let is_ours = provider.is_some_and(|provider| provider.cleared(cleared));
        // What is being taken back will be cleared once more.
        if is_ours && !self.revoking.contains(&device) { length } else { ByteLen::ZERO }
    }

    /// What becomes readable when the kernel wants a function back; `None` for one that isn't owned.
    pub fn wanted_back(&self, device: PciAddress) -> Option<Result<OwnedFd, Errno>> {
        let provider = self.providers.get(&device).map(VfioProvider::function);
        let function = provider.or_else(|| Some(self.initiators.get(&device)?.initiator.function()))?;
        Some(function.device().wanted_back())
    }

    /// How much of a BAR can be lent now, and in how large pieces.
    pub fn figures(&self, bar: BarOf) -> Option<Figures> {
        self.providers.get(&bar.device).and_then(|provider| provider.figures(bar.bar))
    }

    /// How much of a BAR can be lent now.
    pub fn free(&self, bar: BarOf) -> ByteLen {
        self.figures(bar).map_or(ByteLen::ZERO, |figures| figures.free)
    }

    /// How much is mapped for each initiator.
    pub fn mapping_counts(&self) -> impl Iterator<Item = (Named, usize)> + '_ {
        self.initiators
            .iter()
            .map(|(&device, driven)| (Named::Vfio(device), driven.initiator.mappings().count()))
    }

    /// The initiators whose devices were opened again since this was asked last.
    pub fn reopened(&mut self) -> Vec<PciAddress> {
        std::mem::take(&mut self.reopened)
    }

    /// The initiators that turned out since this was asked last to be waited for, until whoever has their devices lets go of them.
    pub fn held_by_others(&mut self) -> Vec<PciAddress> {
        std::mem::take(&mut self.held)
    }

    /// Whether an initiator isn't the daemon's because someone has its device.
    pub fn is_held_by_other(&self, device: PciAddress) -> bool {
        matches!(self.idle.get(&device), Some(Refusal::InitiatorTaken { .. }))
    }

    /// The providers, to look at.
    pub fn providers(&self) -> impl Iterator<Item = &VfioProvider> {
        self.providers.values()
    }

    /// Whether an initiator may be used by this user.
    fn check(&mut self, device: PciAddress, reach: &Reach) -> Result<(), Refusal> {
        let initiator = Named::Vfio(device);
        let Some(driven) = self.initiators.get(&device) else {
            let why = "the config doesn't name it (`[[vfio.initiator]]`)".to_owned();
            let unknown = || Refusal::InitiatorNotServed { initiator, why };
            return Err(self.idle.get(&device).cloned().unwrap_or_else(unknown));
        };
        let may_be_given = self.rules.initiators.get(&device).is_some_and(|rules| rules.give_device);
        if reach.drive == Some(device) && !may_be_given {
            let why = "the config doesn't let clients drive it (`give_device`)".to_owned();
            return Err(Refusal::InitiatorNotServed { initiator, why });
        }
        let (held_by_other, drives) =
            (driven.holder.is_some_and(|uid| uid != reach.uid), reach.drive == Some(device));
        let any = !driven.users.is_empty();
        let other = driven.users.keys().any(|&uid| uid != reach.uid);
        if drives && other || held_by_other && (any || !self.take_device_back(device)) {
            return Err(Refusal::InitiatorTaken { initiator });
        }
        Ok(())
    }

    fn map_for_all(&mut self, bar: BarOf, range: ByteRange, wanted: &Wanted<'_>) -> Result<(), CallError> {
        for &(device, at) in &wanted.reach.initiators {
            let memory =
                self.providers.get(&bar.device).and_then(|provider| provider.mappable(bar.bar, range));
            let (Some(memory), Some(driven)) = (memory, self.initiators.get_mut(&device)) else {
                unreachable!("a window was lent, and its initiators were checked")
            };
            let place = at.map_or(Place::Anywhere, Place::At);
            let address = driven.initiator.map(memory, wanted.reach.direction, place);
            let address =
                address.map_err(|error| refuse::not_mapped(wanted.region, Named::Vfio(device), error))?;
            self.remember(wanted.lease, wanted.reach.uid, device, address);
        }
        Ok(())
    }

    /// What a lease has mapped for an initiator.
    fn remember(&mut self, lease: LeaseId, uid: u32, device: PciAddress, address: DmaAddr) {
        if let Some(driven) = self.initiators.get_mut(&device) {
            *driven.users.entry(uid).or_default() += 1;
        }
        let mapped = Mapped { uid, addresses: Vec::new() };
        self.mapped.entry(lease).or_insert(mapped).addresses.push(address);
    }

    /// A copy of the device's descriptor for the client that will drive it.
    fn give_device(&mut self, reach: &Reach) -> Result<Option<OwnedFd>, CallError> {
        let Some(device) = reach.drive else { return Ok(None) };
        let initiator = Named::Vfio(device);
        let Some(driven) = self.initiators.get_mut(&device) else { unreachable!("{initiator} was checked") };
        let fd = driven.initiator.function().device().as_fd();
        let copy = fd.try_clone_to_owned().map_err(|error| Fault::DeviceFailed {
            device,
            operation: "duplicating its descriptor".to_owned(),
            reason: error.to_string(),
        })?;
        if driven.holder != Some(reach.uid) {
            let before = driven.holder.replace(reach.uid);
            forget(&self.store, device, Kept::Device(before));
            keep(&self.store, device, Kept::Device(driven.holder), fd);
        }
        Ok(Some(copy))
    }

    fn store_window(&mut self, bar: BarOf, range: ByteRange, dmabuf: BorrowedFd<'_>) {
        let stored = keep(&self.store, bar.device, Kept::Window(bar.bar, range), dmabuf);
        if let Some(provider) = self.providers.get_mut(&bar.device).filter(|_| stored) {
            provider.stored(bar.bar, range);
        }
    }
}

/// All of a function's descriptors that systemd keeps, by name.
fn kept_of(function: &Function, holder: Option<u32>) -> Vec<(Kept, BorrowedFd<'_>)> {
    let Descriptors { device, space } = function.descriptors();
    let mut kept = vec![(Kept::Device(holder), device)];
    match space {
        Space::Container { group, container } => {
            kept.extend([(Kept::Group, group), (Kept::Container, container)]);
        }
        Space::Iommufd { fd, number } => kept.push((Kept::Iommufd(number), fd)),
    }
    kept
}

/// Their names alone.
fn names_of(function: &Function, holder: Option<u32>) -> Vec<Kept> {
    kept_of(function, holder).into_iter().map(|(kept, _)| kept).collect()
}

/// Has systemd keep a function's descriptors.
fn keep_function(store: &FdStore, function: &Function, holder: Option<u32>) {
    for (kept, fd) in kept_of(function, holder) {
        keep(store, function.address(), kept, fd);
    }
}

/// Has systemd keep a copy. Returns whether it was sent one.
fn keep(store: &FdStore, device: PciAddress, kept: Kept, fd: BorrowedFd<'_>) -> bool {
    if !store.is_available() {
        return false;
    }
    let sent = store.put(&kept.name(device), fd);
    if let Err(error) = &sent {
        tracing::warn!(%device, %error, "a restart will lose the leases of {device}: systemd has no {kept} of it");
    }
    sent.is_ok()
}

/// Has systemd drop its copy, if it has one.
fn forget(store: &FdStore, device: PciAddress, kept: Kept) {
    if let Err(error) = store.remove(&kept.name(device)) {
        tracing::warn!(%device, %error, "systemd keeps the {kept} of {device}");
    }
}
