//! One BAR: who has which window of it.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd},
    sync::Arc,
};

use peermem_proto::{BusAddr, ByteLen, ByteRange, PciAddress};

use super::{CarveError, Cleared, Clearing};
use crate::{
    mapper::{Loan, Mappable},
    provider::fdinfo,
    ranges::{Figures, Fit, NoPlace, Ranges},
    sys::{
        DeviceMemory,
        vfio::{BarIndex, Device},
    },
};

/// A BAR of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BarOf {
    /// The function.
    pub device: PciAddress,
    /// Which of its BARs.
    pub bar: BarIndex,
}

/// A piece of a BAR, lent.
#[derive(Debug)]
pub struct Window {
    /// Where it is in the BAR: what [`VfioProvider::give_back`](super::VfioProvider::give_back) takes.
    pub range: ByteRange,
    /// A dma-buf of exactly these bytes.
    pub dmabuf: OwnedFd,
}

/// What a window that isn't free is in.
#[derive(Debug)]
enum State {
    /// A lease has it.
    Lent(Lent),
    /// The lease has ended; someone may still have it.
    Returned(Lent),
    /// Nobody can reach it but the daemon, which is zeroing it.
    Clearing,
}

/// What tells whether anyone has a window.
#[derive(Debug)]
struct Lent {
    /// The daemon's own copy of the dma-buf. Has copies itself where the window is mapped for initiators.
    loan: Arc<Loan>,
    /// Whether systemd has a copy as well, so that a restart finds the window.
    stored: bool,
}

impl Lent {
    fn new(dmabuf: OwnedFd, stored: bool) -> Self {
        Self { loan: Loan::new(dmabuf), stored }
    }

    /// Whether the daemon's own copies are the last: the window is mapped for no initiator, no process has a descriptor, no
    /// importer an attachment, and no message on its way carries one. The kernel's count leaves out the reference that
    /// reading it takes.
    fn is_last(&self) -> bool {
        self.has_copies(1)
    }

    /// Whether systemd's copy is all that keeps the window from being cleared. It may never have been taken, since the store is
    /// full: so this is a reason to have it dropped and to count again, and no more.
    fn is_only_stored(&self) -> bool {
        self.stored && self.has_copies(2)
    }

    /// Whether there are at most so many copies, the daemon's included.
    fn has_copies(&self, most: u64) -> bool {
        let count = || fdinfo::field(&self.loan.dmabuf(), "count")?.parse::<u64>().ok();
        Arc::strong_count(&self.loan) == 1 && count().is_some_and(|count| count <= most)
    }
}

#[derive(Debug)]
pub(super) struct Bar {
    index: BarIndex,
    memory: Arc<DeviceMemory>,
    space: Ranges,
    /// What isn't free, by its start.
    windows: BTreeMap<ByteLen, (ByteRange, State)>,
}

impl Bar {
    /// A BAR with windows that are lent, as copies of their dma-bufs show. Nobody knows what is in the rest of it: that must be
    /// cleared first.
    pub(super) fn new(
        index: BarIndex,
        memory: DeviceMemory,
        lent: Vec<Window>,
    ) -> Result<(Self, Vec<Clearing>), NoPlace> {
        let space = Ranges::new([ByteRange::from_start(memory.length())]);
        let mut bar = Self { index, memory: Arc::new(memory), space, windows: BTreeMap::new() };
        for Window { range, dmabuf } in lent {
            bar.space.claim(range)?;
            bar.windows.insert(range.offset(), (range, State::Lent(Lent::new(dmabuf, true))));
        }
        let unknown: Vec<_> = bar.space.free().collect();
        let mut clearings = Vec::new();
        for range in unknown {
            bar.space.claim(range)?;
            clearings.push(bar.clear(range));
        }
        Ok((bar, clearings))
    }

    pub(super) fn carve(
        &mut self,
        device: &Device,
        length: ByteLen,
        alignment: ByteLen,
    ) -> Result<Window, CarveError> {
        let range = self.space.take(length, alignment, Fit::Best).map_err(|source| CarveError::NoRoom {
            source,
            returned: self.sum(|state| matches!(state, State::Returned(_))),
            clearing: self.sum(|state| matches!(state, State::Clearing)),
        })?;
        let exported = device.export(self.index, range).map_err(CarveError::Export).and_then(|dmabuf| {
            let copy = dmabuf.as_fd().try_clone_to_owned().map_err(CarveError::Descriptor)?;
            Ok((dmabuf, copy))
        });
        match exported {
            Ok((dmabuf, copy)) => {
                self.windows.insert(range.offset(), (range, State::Lent(Lent::new(copy, false))));
                Ok(Window { range, dmabuf })
            }
            Err(error) => {
                self.space.give_back(range);
                Err(error)
            }
        }
    }

    /// Ends a loan. Returns whether there was one of exactly this range.
    pub(super) fn give_back(&mut self, range: ByteRange) -> bool {
        let Some((lent, state)) = self.windows.remove(&range.offset()) else { return false };
        let (state, ended) = match state {
            State::Lent(loan) if lent == range => (State::Returned(loan), true),
            other => (other, false),
        };
        self.windows.insert(range.offset(), (lent, state));
        ended
    }

    /// systemd has a copy of a window's dma-buf from now on.
    pub(super) fn stored(&mut self, range: ByteRange) {
        if let Some((_, State::Lent(lent))) = self.windows.get_mut(&range.offset()) {
            lent.stored = true;
        }
    }

    /// The windows that came back and that only systemd's copies keep: those must be dropped, and count as dropped.
    pub(super) fn only_stored(&mut self) -> Vec<ByteRange> {
        let drop_copy = |(range, state): &mut (ByteRange, State)| match state {
            State::Returned(lent) if lent.is_only_stored() => {
                lent.stored = false;
                Some(*range)
            }
            _ => None,
        };
        self.windows.values_mut().filter_map(drop_copy).collect()
    }

    /// Whether something came back that somebody may still have.
    pub(super) fn has_returned(&self) -> bool {
        self.windows.values().any(|(_, state)| matches!(state, State::Returned(_)))
    }

    /// The windows that aren't free and aren't being cleared, each with whether systemd has a copy.
    pub(super) fn kept(&self) -> impl Iterator<Item = (ByteRange, bool)> + '_ {
        self.windows.values().filter_map(|(range, state)| match state {
            State::Lent(lent) | State::Returned(lent) => Some((*range, lent.stored)),
            State::Clearing => None,
        })
    }

    /// What came back and nobody has any more, to be cleared.
    pub(super) fn settle(&mut self) -> Vec<Clearing> {
        let is_free = |(range, state): &(ByteRange, State)| match state {
            State::Returned(lent) if lent.is_last() => Some(*range),
            _ => None,
        };
        let ranges: Vec<_> = self.windows.values().filter_map(is_free).collect();
        ranges.into_iter().map(|range| self.clear(range)).collect()
    }

    /// Takes cleared memory back into use. What wasn't being cleared here is left alone; returns whether it was.
    pub(super) fn cleared(&mut self, Cleared(clearing): Cleared) -> bool {
        let start = clearing.range.offset();
        let expected = self
            .windows
            .get(&start)
            .is_some_and(|(range, state)| *range == clearing.range && matches!(state, State::Clearing));
        let is_ours = expected && Arc::ptr_eq(&clearing.memory, &self.memory);
        if is_ours {
            self.windows.remove(&start);
            self.space.give_back(clearing.range);
        }
        is_ours
    }

    /// Whether something else than the bar itself has the memory.
    pub(super) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.memory) > 1
    }

    pub(super) fn size(&self) -> ByteLen {
        self.memory.length()
    }

    /// A window that is lent, for mapping it for initiators.
    pub(super) fn mappable(&self, range: ByteRange, at: Option<BusAddr>) -> Option<Mappable> {
        match self.windows.get(&range.offset())? {
            (lent, State::Lent(Lent { loan, .. })) if *lent == range => {
                let at = at.and_then(|at| at.checked_add(range.offset().get()));
                Some(Mappable::new(&self.memory, range, at, loan))
            }
            _ => None,
        }
    }

    pub(super) fn figures(&self) -> Figures {
        self.space.figures()
    }

    fn clear(&mut self, range: ByteRange) -> Clearing {
        self.windows.insert(range.offset(), (range, State::Clearing));
        Clearing { bar: self.index, memory: Arc::clone(&self.memory), range }
    }

    fn sum(&self, of: impl Fn(&State) -> bool) -> ByteLen {
        // Windows lie inside the BAR without overlap, so that the sum fits.
        let lengths =
            self.windows.values().filter(|(_, state)| of(state)).map(|(range, _)| range.length().get());
        ByteLen::new(lengths.sum())
    }
}
