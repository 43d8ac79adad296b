//! What outlives the daemon: the journal, and systemd's store of descriptors.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use peermem_proto::{Generation, Region, RegionName};

use crate::{
    core::{Record, Remembered},
    fd_store::{FdName, FdStore},
    journal::{Instance, Journal, Opened},
    provider::Dmabuf,
    words::in_words,
};

/// How long after a rewrite that failed none is tried: it writes every lease, and where there is no room calls would wait for it.
const REWRITE_PAUSE: Duration = Duration::from_secs(5);

/// Where the shell writes down what a restart must know.
#[derive(Debug)]
pub struct Memory {
    journal: Journal<Record>,
    store: FdStore,
    /// The registered regions whose dma-bufs are in the store.
    stored: HashMap<RegionName, FdName>,
    /// When the journal could last not be rewritten.
    rewrite_failed: Option<Instant>,
    /// Whether something that has happened isn't in it: an end that couldn't be written would come back at the next start.
    is_behind: bool,
}

impl Memory {
    /// Takes the journal, says in the log what of it doesn't count, and gives what it remembers.
    pub fn new(opened: Opened<Record>, store: FdStore) -> (Self, Remembered) {
        let Opened { journal, records, set_aside } = opened;
        if let Some(set_aside) = set_aside {
            tracing::error!("{set_aside}");
        }
        if !store.is_available() {
            tracing::debug!("no service manager keeps descriptors: registered regions end with this process");
        }
        let memory = Self { journal, store, stored: HashMap::new(), rewrite_failed: None, is_behind: false };
        (memory, Remembered::replay(records))
    }

    /// The way to systemd's store.
    pub(super) fn store(&self) -> FdStore {
        self.store.clone()
    }

    pub(super) fn instance(&self) -> Instance {
        self.journal.instance()
    }

    /// Remembers things, in one write.
    ///
    /// # Errors
    /// In words, why it can't; none of them is remembered then.
    pub(super) fn record(&mut self, records: &[Record]) -> Result<(), String> {
        let recorded = self.journal.append(records);
        self.is_behind |= recorded.is_err();
        recorded.map_err(|error| in_words(&error))
    }

    pub(super) fn is_due_for_rewrite(&self) -> bool {
        let has_just_failed = || self.rewrite_failed.is_some_and(|when| when.elapsed() < REWRITE_PAUSE);
        (self.is_behind || self.journal.is_due_for_rewrite()) && !has_just_failed()
    }

    /// Writes the journal afresh: what is, and not how it came to be. Returns whether it could.
    pub(super) fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> bool {
        let rewritten = self.journal.rewrite(records);
        self.rewrite_failed = rewritten.is_err().then(Instant::now);
        self.is_behind &= rewritten.is_err();
        if let Err(error) = &rewritten {
            tracing::warn!("the journal can't be rewritten, and grows on: {}", in_words(error));
        }
        rewritten.is_ok()
    }

    /// Has a registered region's dma-buf outlive this process.
    pub(super) fn keep_region(&mut self, region: &Region, dmabuf: &Dmabuf) {
        if !self.store.is_available() {
            return;
        }
        let Some(name) = name_of(region.generation) else { return };
        match self.store.put(&name, dmabuf.as_fd()) {
            Ok(()) => drop(self.stored.insert(region.name.clone(), name)),
            Err(error) => {
                tracing::warn!(region = %region.name, %error, "a restart will lose region {}", region.name);
            }
        }
    }

    /// The same for a dma-buf that came out of the store and is still there.
    pub(super) fn is_kept(&mut self, region: &RegionName, generation: Generation) {
        self.stored.extend(name_of(generation).map(|name| (region.clone(), name)));
    }

    /// Takes a region's dma-buf out of the store, if it is there.
    pub(super) fn forget_region(&mut self, region: &RegionName) {
        if let Some(name) = self.stored.remove(region) {
            self.discard(&name);
        }
    }

    /// Takes the dma-buf of a region that can't be taken up out of the store.
    pub(super) fn discard_region(&self, generation: Generation) {
        if let Some(name) = name_of(generation) {
            self.discard(&name);
        }
    }

    /// Takes out of the store what nobody remembers.
    pub(super) fn discard(&self, name: &FdName) {
        if let Err(error) = self.store.remove(name) {
            tracing::warn!(%error, "systemd keeps descriptor {}", name.as_str());
        }
    }
}

/// The dma-bufs that came out of the store, by the generation of their regions.
pub(super) fn stored_dmabuf(stored: &mut Vec<(FdName, OwnedFd)>, generation: Generation) -> Option<OwnedFd> {
    let name = name_of(generation)?;
    let at = stored.iter().position(|(stored, _)| *stored == name)?;
    Some(stored.swap_remove(at).1)
}

fn name_of(generation: Generation) -> Option<FdName> {
    format!("region-{generation}").parse().ok()
}
