//! Who has which part of a space: windows of a BAR, addresses behind an IOMMU.
//!
//! Pure bookkeeping over numbers, so that both get the same alignment rules, the same refusals and the same tests.

use std::collections::BTreeMap;

use peermem_proto::{ByteLen, ByteRange};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// Which of several free pieces is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// The one with the lowest address: keeps high addresses, which some devices can't emit, for last.
    First,
    /// The smallest that is large enough: keeps large pieces whole.
    Best,
}

/// Why a place wasn't given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NoPlace {
    /// Nothing is that long.
    #[error(
        "no free piece holds {length} aligned to {alignment}: {free} are free, the largest piece has {largest}"
    )]
    Exhausted {
        /// What was asked for.
        length: ByteLen,
        /// The alignment that was asked for.
        alignment: ByteLen,
        /// The sum of all that is free.
        free: ByteLen,
        /// The largest piece.
        largest: ByteLen,
    },
    /// Someone has a part of it.
    #[error("{range} overlaps what is taken, {taken}")]
    Taken {
        /// What was asked for.
        range: ByteRange,
        /// The first that is in the way.
        taken: ByteRange,
    },
    /// The space doesn't reach there.
    #[error("{range} isn't all inside the space")]
    Outside {
        /// What was asked for.
        range: ByteRange,
    },
}

/// How much is left, and in how large pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The sum of all that is free.
    pub free: ByteLen,
    /// The largest free piece.
    pub largest: ByteLen,
    /// The number of free pieces.
    pub pieces: usize,
}

impl Figures {
    /// The part of the free bytes that the largest piece doesn't have: 0 when all is in one piece, near 1 when it is dust.
    pub fn fragmentation(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a figure to look at")]
        let [free, largest] = [self.free, self.largest].map(|length| length.get() as f64);
        if self.free.is_zero() { 0.0 } else { 1.0 - largest / free }
    }
}

/// A space and what of it is taken.
///
/// **Invariant:** free and taken pieces don't overlap, and together are the space; neighbouring free pieces of one range are
/// one piece. Pieces are kept by their start, with their length.
#[derive(Debug, Clone, Default)]
pub struct Ranges {
    free: BTreeMap<u64, u64>,
    taken: BTreeMap<u64, u64>,
    /// Where free pieces don't grow together although they touch: the space's own ranges.
    seams: Vec<u64>,
}

impl Ranges {
    /// A space of these ranges, all of it free. Where they overlap, the later one is cut; empty ones are left out.
    pub fn new(ranges: impl IntoIterator<Item = ByteRange>) -> Self {
        let mut ranges: Vec<_> =
            ranges.into_iter().map(|range| (range.offset().get(), range.end().get())).collect();
        ranges.sort_unstable();
        let mut space = Self::default();
        let mut end_before = 0;
        for (start, end) in ranges {
            let start = start.max(end_before);
            if start < end {
                space.free.insert(start, end - start);
                space.seams.push(start);
                end_before = end;
            }
        }
        space
    }

    /// Takes a piece that begins at a multiple of `alignment`.
    ///
    /// # Errors
    /// [`NoPlace::Exhausted`], also for a length or an alignment of zero.
    pub fn take(&mut self, length: ByteLen, alignment: ByteLen, fit: Fit) -> Result<ByteRange, NoPlace> {
        let place = |(&start, &size): (&u64, &u64)| {
            let aligned = start.checked_next_multiple_of(alignment.get())?;
            let padding = aligned - start;
            (size.checked_sub(padding)? >= length.get()).then_some((aligned, size))
        };
        let askable = !length.is_zero() && !alignment.is_zero();
        let mut places = self.free.iter().filter(|_| askable).filter_map(place);
        let found = match fit {
            Fit::First => places.next(),
            Fit::Best => places.min_by_key(|&(_, size)| size),
        };
        let range = found.and_then(|(start, _)| ByteRange::new(ByteLen::new(start), length));
        let Some(range) = range else {
            let Figures { free, largest, .. } = self.figures();
            return Err(NoPlace::Exhausted { length, alignment, free, largest });
        };
        self.claim(range)?;
        Ok(range)
    }

    /// Takes exactly this piece.
    ///
    /// # Errors
    /// [`NoPlace::Taken`] and [`NoPlace::Outside`]. An empty piece is outside.
    pub fn claim(&mut self, range: ByteRange) -> Result<(), NoPlace> {
        let (start, end) = (range.offset().get(), range.end().get());
        let holder = self.free.range(..=start).next_back().map(|(&at, &size)| (at, at + size));
        let Some((from, to)) = holder.filter(|&(_, to)| start < end && end <= to) else {
            return Err(self
                .in_the_way(range)
                .map_or(NoPlace::Outside { range }, |taken| NoPlace::Taken { range, taken }));
        };
        self.free.remove(&from);
        for (at, until) in [(from, start), (end, to)] {
            if at < until {
                self.free.insert(at, until - at);
            }
        }
        self.taken.insert(start, end - start);
        Ok(())
    }

    /// Gives a piece back. Returns whether exactly this piece was taken; otherwise nothing changes.
    pub fn give_back(&mut self, range: ByteRange) -> bool {
        let (mut start, mut end) = (range.offset().get(), range.end().get());
        if self.taken.get(&start) != Some(&(end - start)) {
            return false;
        }
        self.taken.remove(&start);
        if let Some(size) = self.free.get(&end).copied().filter(|_| !self.seams.contains(&end)) {
            self.free.remove(&end);
            end += size;
        }
        let before = self.free.range(..start).next_back().map(|(&at, &size)| (at, at + size));
        if let Some((at, _)) = before.filter(|&(_, to)| to == start && !self.seams.contains(&start)) {
            start = at;
        }
        self.free.insert(start, end - start);
        true
    }

    /// What is free, in the order of addresses.
    pub fn free(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.free.iter().filter_map(|(&at, &size)| ByteRange::new(ByteLen::new(at), ByteLen::new(size)))
    }

    /// What is left.
    pub fn figures(&self) -> Figures {
        // Pieces don't overlap, so that their sum is at most the end of the address space.
        Figures {
            free: ByteLen::new(self.free.values().sum()),
            largest: ByteLen::new(self.free.values().copied().max().unwrap_or(0)),
            pieces: self.free.len(),
        }
    }

    /// The first taken piece that overlaps `range`. Nothing overlaps an empty one.
    fn in_the_way(&self, range: ByteRange) -> Option<ByteRange> {
        let (start, end) = (range.offset().get(), range.end().get());
        if start == end {
            return None;
        }
        let before = self.taken.range(..=start).next_back().filter(|&(&at, &size)| start < at + size);
        let (&at, &size) = before.or_else(|| self.taken.range(start..end).next())?;
        ByteRange::new(ByteLen::new(at), ByteLen::new(size))
    }
}
