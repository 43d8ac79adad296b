//! The addresses that one initiator can emit and its IOMMU translates.

use peermem_proto::{ByteLen, ByteRange, address::Iova};

use super::MapError;
use crate::{
    ranges::{Fit, NoPlace, Ranges},
    sys::vfio::IommuInfo,
};

/// How many address bits a device has: what a kernel driver would give to `dma_set_mask`. 12 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressBits(u8);

impl AddressBits {
    /// All of them.
    pub const ALL: Self = Self(64);

    /// So many, or `None` below 12 or above 64.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= 12 && bits <= 64 { Some(Self(bits)) } else { None }
    }

    /// The last address.
    const fn last(self) -> u64 {
        u64::MAX >> (64 - self.0)
    }
}

/// What is free of them.
#[derive(Debug)]
pub(super) struct IovaSpace {
    ranges: Ranges,
    page: ByteLen,
    page_sizes: u64,
}

impl IovaSpace {
    /// All that the IOMMU translates, but for the page at 0: too many devices and drivers take that for *no address*.
    pub(super) fn new(info: &IommuInfo, bits: AddressBits) -> Self {
        let page = info.page().get();
        let whole = |range: &crate::sys::vfio::IovaRange| {
            let start = range.first.get().max(page).checked_next_multiple_of(page)?;
            // One past the last address doesn't fit into 64 bits for the topmost page, which is left out.
            let end = range.last.get().min(bits.last()).saturating_add(1);
            let length = (end - end % page).checked_sub(start)?;
            ByteRange::new(ByteLen::new(start), ByteLen::new(length))
        };
        Self {
            ranges: Ranges::new(info.ranges.iter().filter_map(whole)),
            page: info.page(),
            page_sizes: info.page_sizes,
        }
    }

    /// All that a device can emit which no IOMMU translates for.
    pub(super) fn untranslated(bits: AddressBits) -> Self {
        let page = ByteLen::from_usize(rustix::param::page_size());
        let all = ByteRange::new(ByteLen::ZERO, ByteLen::new(bits.last()));
        Self { ranges: Ranges::new(all), page, page_sizes: page.get() }
    }

    /// The smallest page: what everything must be a multiple of.
    pub(super) const fn page(&self) -> ByteLen {
        self.page
    }

    /// Takes addresses for `length` bytes. They begin at a multiple of the largest page that fits, so that the IOMMU can use it.
    pub(super) fn take(&mut self, length: ByteLen) -> Result<Iova, MapError> {
        let fitting = self.page_sizes & (u64::MAX >> length.get().leading_zeros());
        let alignment = fitting.checked_ilog2().map_or(self.page, |bit| ByteLen::new(1 << bit));
        // Rather a place for small pages than none.
        self.ranges
            .take(length, alignment, Fit::First)
            .or_else(|_| self.ranges.take(length, self.page, Fit::First))
            .map(|range| Iova::new(range.offset().get()))
            .map_err(|refused| MapError::AddressesUsedUp { length, largest: largest(&refused) })
    }

    /// Takes exactly these addresses.
    pub(super) fn claim(&mut self, iova: Iova, length: ByteLen) -> Result<(), MapError> {
        let unreachable = MapError::Unreachable { iova, length };
        let range = range(iova, length).ok_or_else(|| unreachable.clone())?;
        self.ranges.claim(range).map_err(|refused| match refused {
            NoPlace::Taken { taken, .. } => {
                MapError::Overlap { iova, length, taken: Iova::new(taken.offset().get()) }
            }
            NoPlace::Outside { .. } | NoPlace::Exhausted { .. } => unreachable,
        })
    }

    /// What is free, as ranges of addresses.
    pub(super) fn free(&self) -> impl Iterator<Item = ByteRange> + '_ {
        self.ranges.free()
    }

    /// Gives addresses back that [`IovaSpace::take`] or [`IovaSpace::claim`] gave.
    pub(super) fn give_back(&mut self, iova: Iova, length: ByteLen) {
        let was_taken = range(iova, length).is_some_and(|range| self.ranges.give_back(range));
        debug_assert!(was_taken, "{length} at {iova} weren't taken");
    }
}

fn range(iova: Iova, length: ByteLen) -> Option<ByteRange> {
    ByteRange::new(ByteLen::new(iova.get()), length)
}

fn largest(refused: &NoPlace) -> ByteLen {
    match refused {
        NoPlace::Exhausted { largest, .. } => *largest,
        NoPlace::Taken { .. } | NoPlace::Outside { .. } => ByteLen::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::vfio::IovaRange;

    const PAGE: u64 = 4096;

    /// What the guest's Intel IOMMU says: 39 bits, the window of interrupts left out, pages of 4 KiB and 2 MiB.
    fn intel(bits: AddressBits) -> IovaSpace {
        let range = |first, last| IovaRange { first: Iova::new(first), last: Iova::new(last) };
        let ranges = vec![range(0, 0xfedf_ffff), range(0xfef0_0000, (1 << 39) - 1)];
        IovaSpace::new(&IommuInfo { page_sizes: 0x20_1000, ranges, mappings_left: None }, bits)
    }

    fn length(bytes: u64) -> ByteLen {
        ByteLen::new(bytes)
    }

    #[test]
    fn large_memory_begins_where_large_pages_can() {
        let mut space = intel(AddressBits::ALL);
        assert_eq!(space.take(length(PAGE)).unwrap().get(), PAGE, "address 0 isn't given out");
        assert_eq!(space.take(length(4 << 20)).unwrap().get(), 2 << 20);
        assert_eq!(space.take(length(PAGE)).unwrap().get(), 2 * PAGE);
    }

    #[test]
    fn reserved_and_unreachable_addresses_are_refused() {
        let mut space = intel(AddressBits::new(32).unwrap());
        let claim = |space: &mut IovaSpace, iova, bytes| space.claim(Iova::new(iova), length(bytes));
        for (iova, bytes) in [
            (0, PAGE),
            (0xfee0_0000, PAGE),
            (0xfedf_f000, 2 * PAGE),
            (0xffff_f000, 2 * PAGE),
            (1 << 32, PAGE),
            (u64::MAX - PAGE + 1, PAGE),
        ] {
            let refused = claim(&mut space, iova, bytes);
            assert!(matches!(refused, Err(MapError::Unreachable { .. })), "{iova:#x}: {refused:?}");
        }
        claim(&mut space, 0xffff_f000, PAGE).unwrap();
        let refused = claim(&mut space, 0xffff_e000, 2 * PAGE).unwrap_err();
        assert!(
            matches!(refused, MapError::Overlap { taken, .. } if taken.get() == 0xffff_f000),
            "{refused}"
        );
    }

    #[test]
    fn a_narrow_device_runs_out_of_addresses_and_gets_them_back() {
        let mut space = intel(AddressBits::new(14).unwrap());
        let taken: Vec<_> = std::iter::from_fn(|| space.take(length(PAGE)).ok()).collect();
        assert_eq!(taken.iter().map(|iova| iova.get()).collect::<Vec<_>>(), [PAGE, 2 * PAGE, 3 * PAGE]);
        let refused = space.take(length(PAGE)).unwrap_err();
        assert_eq!(refused, MapError::AddressesUsedUp { length: length(PAGE), largest: ByteLen::ZERO });
        space.give_back(taken[1], length(PAGE));
        assert_eq!(space.take(length(PAGE)), Ok(taken[1]));
    }

    #[test]
    fn a_space_to_the_very_top_loses_its_last_page() {
        let range = IovaRange { first: Iova::new(u64::MAX - 2 * PAGE + 1), last: Iova::new(u64::MAX) };
        let info = IommuInfo { page_sizes: PAGE, ranges: vec![range], mappings_left: None };
        let mut space = IovaSpace::new(&info, AddressBits::ALL);
        assert_eq!(space.take(length(PAGE)).unwrap(), range.first);
        assert!(space.take(length(PAGE)).is_err());
    }
}
