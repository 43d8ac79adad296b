//! Functions that the daemon owns: their memory is cleared, taken back and waited for; they come and go.

use std::{collections::BTreeSet, time::Duration};

use peermem_proto::{ByteRange, Initiator, PciAddress, RegionName};
use tokio::time::sleep;

use super::{Shared, Shell, pool::Work};
use crate::{
    core::{Input, Remembered},
    functions::{Opened, TakenBack},
    provider::{
        Source,
        vfio::{BarOf, Cleared, Clearing},
    },
    sys::Readable,
};

/// How soon memory that is being zeroed is looked at again that shall be taken back.
const ZEROING: Duration = Duration::from_millis(20);

/// How soon a device is tried again that someone has.
const HELD: Duration = Duration::from_secs(1);

impl Shell {
    /// Takes functions that the config names and that aren't the daemon's yet. `true` when one isn't ready.
    pub(super) fn open_functions(&mut self) -> bool {
        if self.functions.are_complete() {
            return false;
        }
        let snapshot = self.broker.routes().in_full();
        let opened = self.functions.open(&snapshot);
        let unready = opened.unready;
        self.offer(opened);
        self.rewatch();
        unready
    }

    fn offer(&mut self, opened: Opened) {
        for offer in opened.offers {
            let (region, size) = (offer.spec.name.clone(), offer.spec.size);
            if self.sources.contains_key(&region) {
                tracing::warn!(%region, "region {region} of a client ends: the config has one of that name");
                self.run(Input::RegionLost(region.clone()));
            }
            self.add_region(offer.spec, Source::Vfio(offer.bar));
            // None of it can be leased before it is cleared.
            self.run(Input::Missing(region, size));
        }
        self.see_to(opened.functions, opened.clearings);
    }

    /// Watches functions and has their memory cleared.
    pub(super) fn see_to(&self, functions: Vec<PciAddress>, clearings: Vec<(PciAddress, Clearing)>) {
        for device in functions {
            self.send(Work::Watch(device));
        }
        for (device, clearing) in clearings {
            self.send(Work::Clear(device, clearing));
        }
    }

    /// Watches initiators that were opened again, since the kernel forgot who was to be told, and waits for those that couldn't be.
    pub(super) fn rewatch(&mut self) {
        for device in self.functions.reopened() {
            self.send(Work::Watch(device));
        }
        for device in self.functions.held_by_others() {
            self.send(Work::Regain(device));
        }
    }

    /// Which region a BAR is.
    fn region_of(&self, bar: BarOf) -> Option<RegionName> {
        let mut sources = self.sources.iter();
        sources
            .find_map(|(name, source)| matches!(source, Source::Vfio(of) if *of == bar).then(|| name.clone()))
    }

    fn regions_of(&self, device: PciAddress) -> Vec<RegionName> {
        let is_of = |source: &Source| matches!(source, Source::Vfio(bar) if bar.device == device);
        self.sources.iter().filter(|(_, source)| is_of(source)).map(|(name, _)| name.clone()).collect()
    }

    /// Goes on with a function's memory that was zeroed.
    pub(super) fn cleared(&mut self, device: PciAddress, cleared: Cleared) {
        let bar = BarOf { device, bar: cleared.bar() };
        let recovered = self.functions.cleared(device, cleared);
        if let Some(region) = self.region_of(bar) {
            self.run(Input::Recovered(region, recovered));
        }
    }

    /// Looks for windows of ended leases; `true` when there is more to wait for.
    pub(super) fn settle_function(&mut self, device: PciAddress) -> bool {
        let (clearings, waits) = self.functions.settle(device);
        for clearing in clearings {
            self.send(Work::Clear(device, clearing));
        }
        waits
    }

    /// Begins to take a function's memory back from whoever has some. Usually that is done at once.
    pub(super) fn take_back_all(&mut self, device: PciAddress) -> Vec<Input> {
        let free = self.functions.begin_taking_back(device);
        let missing = |(bar, bytes)| Some(Input::Missing(self.region_of(bar)?, bytes));
        let mut inputs: Vec<_> = free.into_iter().filter_map(missing).collect();
        inputs.extend(self.go_on_taking_back(device).unwrap_or_else(|| {
            self.send(Work::TakeBack(device));
            Vec::new()
        }));
        inputs
    }

    /// One more attempt; `None` while memory is being zeroed.
    fn go_on_taking_back(&mut self, device: PciAddress) -> Option<Vec<Input>> {
        match self.functions.take_back(device) {
            TakenBack::Waits => None,
            TakenBack::Done(clearings) => {
                for clearing in clearings {
                    self.send(Work::Clear(device, clearing));
                }
                self.send(Work::Watch(device));
                Some(Vec::new())
            }
            TakenBack::Lost => Some(self.regions_of(device).into_iter().map(Input::RegionLost).collect()),
        }
    }

    /// The kernel wants a function back: it is being unplugged, or goes to another driver.
    fn let_go(&mut self, device: PciAddress) {
        tracing::info!(%device, "the kernel wants {device} back");
        for region in self.regions_of(device) {
            self.run(Input::RegionLost(region));
        }
        self.run(Input::InitiatorLost(Initiator::Vfio(device)));
        self.functions.drop_function(device);
    }

    /// Before a stop for good: no initiator reaches anything any more, and no lease is granted.
    pub fn unmap_all(&mut self) {
        self.drain();
        self.functions.unmap_all();
    }

    /// After a restart: leases that are over have nothing any more.
    pub(super) fn release_what_ended(&mut self, remembered: &Remembered) {
        let lives: BTreeSet<_> = self.broker.leases().map(|lease| lease.id).collect();
        for (id, record) in remembered.leases.iter().filter(|(id, _)| !lives.contains(id)) {
            let lease = &record.lease;
            let Some(Source::Vfio(bar)) = self.sources.get(&lease.region) else { continue };
            let Some(range) = ByteRange::new(lease.offset, lease.length) else { continue };
            self.functions.release(*id, *bar, range);
        }
        let devices: Vec<_> =
            self.functions.providers().map(|provider| provider.function().address()).collect();
        for device in devices {
            self.count_missing(device);
            self.send(Work::SettleFunction(device));
        }
    }

    /// Says how much of a function's regions is neither leased nor free.
    fn count_missing(&mut self, device: PciAddress) {
        for region in self.regions_of(device) {
            let Some(Source::Vfio(bar)) = self.sources.get(&region) else { continue };
            let free = self.functions.free(*bar);
            let Some((expected, _)) = self.broker.division_of(&region) else { continue };
            self.run(Input::Missing(region, expected.saturating_sub(free)));
        }
    }
}

/// Zeroes memory on a thread that may take its time.
pub(super) async fn clear(shell: Shared, device: PciAddress, clearing: Clearing) {
    match tokio::task::spawn_blocking(|| clearing.run()).await {
        Ok(Ok(cleared)) => shell.borrow_mut().cleared(device, cleared),
        Ok(Err(error)) => tracing::error!(%device, %error, "memory of {device} stays out of use"),
        // The runtime ends.
        Err(_) => {}
    }
}

/// Tries until no memory of the function is being zeroed.
pub(super) async fn take_back(shell: Shared, device: PciAddress) {
    loop {
        sleep(ZEROING).await;
        let inputs = shell.borrow_mut().go_on_taking_back(device);
        if let Some(inputs) = inputs {
            inputs.into_iter().for_each(|input| shell.borrow_mut().run(input));
            return;
        }
    }
}

/// Tries until whoever has an initiator's device has let go of it, of which the kernel says nothing.
pub(super) async fn regain(shell: Shared, device: PciAddress) {
    while shell.borrow().functions.is_held_by_other(device) {
        sleep(HELD).await;
        shell.borrow_mut().open_functions();
    }
}

/// Waits until the kernel wants a function back.
pub(super) async fn watch(shell: Shared, device: PciAddress) {
    let Some(wanted) = shell.borrow().functions.wanted_back(device) else { return };
    match wanted.map_err(Into::into).and_then(Readable::new) {
        Ok(wanted) => {
            if wanted.wait().await.is_ok() {
                shell.borrow_mut().let_go(device);
            }
        }
        Err(error) => {
            tracing::warn!(%device, %error, "unplugging {device} will wait until its leases have ended");
        }
    }
}
