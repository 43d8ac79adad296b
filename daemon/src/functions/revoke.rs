//! Memory and devices that are taken back.

use peermem_proto::{ByteLen, PciAddress};

use super::{Driven, Functions, Kept, forget, keep, keep_function, names_of};
use crate::{
    provider::vfio::{BarOf, Clearing, RevokeError},
    vfio::Function,
    words::in_words,
};

/// How far taking a function's memory back has come.
#[derive(Debug)]
pub enum TakenBack {
    /// Some of it is being zeroed, and mustn't be switched off: to be tried again.
    Waits,
    /// Nobody has any of it. All of it is to be cleared.
    Done(Vec<Clearing>),
    /// Nobody has any of it, and neither has the daemon: its regions are gone.
    Lost,
}

impl Functions {
    /// Says that all leases of a function have ended and its memory is to be taken back. Returns what was free of each BAR,
    /// and isn't until that is done.
    pub fn begin_taking_back(&mut self, device: PciAddress) -> Vec<(BarOf, ByteLen)> {
        let Some(provider) = self.providers.get(&device) else { return Vec::new() };
        if !self.revoking.insert(device) {
            return Vec::new();
        }
        let free = |bar| Some((BarOf { device, bar }, provider.figures(bar)?.free));
        provider.bars().filter_map(free).collect()
    }

    /// Takes the memory back from whoever has some, by closing the device.
    pub fn take_back(&mut self, device: PciAddress) -> TakenBack {
        let Some(provider) = self.providers.remove(&device) else { return TakenBack::Lost };
        if provider.is_in_use() {
            self.providers.insert(device, provider);
            return TakenBack::Waits;
        }
        for (bar, range) in provider.in_store() {
            forget(&self.store, device, Kept::Window(bar, range));
        }
        let kept = names_of(provider.function(), None);
        self.forget_and_wait(device, Kept::Device(None));
        match provider.revoke() {
            Ok((provider, clearings)) => {
                let fd = provider.function().descriptors().device;
                keep(&self.store, device, Kept::Device(None), fd);
                self.providers.insert(device, provider);
                self.revoking.remove(&device);
                TakenBack::Done(clearings)
            }
            Err(RevokeError::InUse { provider, .. }) => {
                self.providers.insert(device, *provider);
                TakenBack::Waits
            }
            Err(error @ (RevokeError::StillOpen(_) | RevokeError::Lost(_))) => {
                tracing::error!(%device, "{} is no longer served: {}", device, in_words(&error));
                self.revoking.remove(&device);
                self.forget_all(device, kept);
                TakenBack::Lost
            }
        }
    }

    /// Lets go of a function, for good or until it is seen again. Its leases must have ended.
    pub fn drop_function(&mut self, device: PciAddress) {
        if let Some(provider) = self.providers.remove(&device) {
            let windows = provider.in_store().map(|(bar, range)| Kept::Window(bar, range));
            self.forget_all(device, windows.chain(names_of(provider.function(), None)));
        }
        if let Some(Driven { initiator, holder, .. }) = self.initiators.remove(&device) {
            self.forget_all(device, names_of(initiator.function(), holder));
        }
        self.revoking.remove(&device);
        self.idle.remove(&device);
    }

    fn forget_all(&self, device: PciAddress, kept: impl IntoIterator<Item = Kept>) {
        kept.into_iter().for_each(|kept| forget(&self.store, device, kept));
    }

    /// Finds out whether the user who was given an initiator's device still has it; resets it if not. Nothing is mapped for it.
    pub(super) fn take_device_back(&mut self, device: PciAddress) -> bool {
        let Some(Driven { initiator, holder, .. }) = self.initiators.remove(&device) else { return false };
        let kept = names_of(initiator.function(), holder);
        self.forget_and_wait(device, Kept::Device(holder));
        match initiator.reopen() {
            Ok((initiator, afresh)) => {
                let holder = holder.filter(|_| !afresh);
                keep(&self.store, device, Kept::Device(holder), initiator.function().descriptors().device);
                self.initiators.insert(device, Driven::new(initiator, holder));
                self.reopened.push(device);
                afresh
            }
            Err(error) => {
                self.forget_all(device, kept);
                self.leave_idle(device, &error);
                false
            }
        }
    }

    /// Has systemd drop its copy, and waits until it has: a device isn't closed before that.
    fn forget_and_wait(&self, device: PciAddress, kept: Kept) {
        forget(&self.store, device, kept);
        if let Err(error) = self.store.settle() {
            tracing::warn!(%device, %error, "systemd doesn't say whether it has dropped the {kept} of {device}");
        }
    }

    /// Serves a function from now on.
    pub(super) fn keep_function(&self, function: &Function, holder: Option<u32>) {
        keep_function(&self.store, function, holder);
    }
}
