//! What an IOMMU can translate: the answer of `VFIO_IOMMU_GET_INFO`, with its chain of capabilities, or that of iommufd.

use peermem_proto::{ByteLen, address::Iova};
use thiserror::Error;
use vfio_bindings::bindings::vfio as abi;

use super::{
    call::size,
    capabilities::{Malformed, chain, number},
};

/// Addresses from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IovaRange {
    /// The first.
    pub first: Iova,
    /// The last.
    pub last: Iova,
}

/// What an IOMMU can translate for the devices of one address space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IommuInfo {
    /// Its page sizes, one bit each.
    pub page_sizes: u64,
    /// The addresses that can be mapped: its aperture without what is reserved, such as the window of interrupts.
    pub ranges: Vec<IovaRange>,
    /// How many more mappings the container may have; `None` where the kernel doesn't say.
    pub mappings_left: Option<u32>,
}

/// Why the kernel's answer is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum IommuInfoError {
    /// The call failed.
    #[error("the kernel doesn't describe the IOMMU")]
    Kernel(#[from] rustix::io::Errno),
    /// No list of addresses: guessing would risk the window of interrupts.
    #[error("the kernel doesn't say which addresses the IOMMU can translate: Linux 5.4 or newer does")]
    NoRanges,
    /// The answer isn't what the header describes.
    #[error("the kernel's description of the IOMMU can't be read")]
    Malformed(#[from] Malformed),
}

impl IommuInfo {
    /// The smallest page.
    pub const fn page(&self) -> ByteLen {
        // `parse` refuses an IOMMU without pages.
        ByteLen::new(1 << self.page_sizes.trailing_zeros())
    }

    /// What iommufd says: which addresses, and what they and lengths must be multiples of. It doesn't say which larger pages there
    /// are, so that every power of two is taken for one.
    ///
    /// # Errors
    /// [`IommuInfoError::NoRanges`] and [`IommuInfoError::Malformed`].
    pub(super) fn from_ranges(alignment: u64, ranges: Vec<IovaRange>) -> Result<Self, IommuInfoError> {
        if !alignment.is_power_of_two() || ranges.iter().any(|range| range.first > range.last) {
            return Err(Malformed.into());
        }
        if ranges.is_empty() {
            return Err(IommuInfoError::NoRanges);
        }
        // Memory that is mapped is made of whole pages of the CPU's, even where smaller ones would do.
        let page = alignment.max(ByteLen::from_usize(rustix::param::page_size()).get());
        Ok(Self { page_sizes: !(page - 1), ranges, mappings_left: None })
    }

    /// Reads a `vfio_iommu_type1_info` and what follows it.
    ///
    /// # Errors
    /// [`IommuInfoError::NoRanges`] and [`IommuInfoError::Malformed`].
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, IommuInfoError> {
        let flags = number::<4>(bytes, 4)?;
        let page_sizes =
            if flags & u64::from(abi::VFIO_IOMMU_INFO_PGSIZES) != 0 { number::<8>(bytes, 8)? } else { 0 };
        if page_sizes == 0 || page_sizes.trailing_zeros() > 40 {
            return Err(Malformed.into());
        }
        let mut info = Self { page_sizes, ranges: Vec::new(), mappings_left: None };
        let has_capabilities = flags & u64::from(abi::VFIO_IOMMU_INFO_CAPS) != 0;
        let first = if has_capabilities { number::<4>(bytes, 16)? } else { 0 };
        for (kind, capability) in chain(bytes, first)? {
            info.take(kind, capability)?;
        }
        if info.ranges.is_empty() { Err(IommuInfoError::NoRanges) } else { Ok(info) }
    }

    /// Takes what one capability says. Kinds that aren't known are passed over.
    fn take(&mut self, kind: u64, capability: &[u8]) -> Result<(), Malformed> {
        const HEADER: usize = size::<abi::vfio_info_cap_header>() as usize;
        const LIST: usize = size::<abi::vfio_iommu_type1_info_cap_iova_range>() as usize;
        const ENTRY: usize = size::<abi::vfio_iova_range>() as usize;
        if kind == u64::from(abi::VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE) {
            let count = usize::try_from(number::<4>(capability, HEADER)?).unwrap_or(usize::MAX);
            let entries = capability.get(LIST..).unwrap_or_default().chunks_exact(ENTRY);
            if entries.len() < count {
                return Err(Malformed);
            }
            for entry in entries.take(count) {
                let (first, last) = (number::<8>(entry, 0)?, number::<8>(entry, 8)?);
                if first > last {
                    return Err(Malformed);
                }
                self.ranges.push(IovaRange { first: Iova::new(first), last: Iova::new(last) });
            }
        } else if kind == u64::from(abi::VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL) {
            self.mappings_left = u32::try_from(number::<4>(capability, HEADER)?).ok();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const FLAGS: u32 = abi::VFIO_IOMMU_INFO_PGSIZES | abi::VFIO_IOMMU_INFO_CAPS;

    fn head(flags: u32, page_sizes: u64, first_capability: u32) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(page_sizes.to_ne_bytes());
        bytes.extend(first_capability.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes
    }

    fn capability(kind: u16, next: u32, words: &[u32]) -> Vec<u8> {
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend(1_u16.to_ne_bytes());
        bytes.extend(next.to_ne_bytes());
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes
    }

    fn ranges(next: u32, count: u32, ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = capability(1, next, &[count, 0]);
        bytes.extend(
            ranges.iter().flat_map(|(first, last)| [first.to_ne_bytes(), last.to_ne_bytes()].concat()),
        );
        bytes
    }

    #[test]
    fn addresses_and_limits_are_found_in_the_chain() {
        let unknown = capability(2, 36, &[7]);
        let available = capability(3, 48, &[65535]);
        let list = ranges(0, 2, &[(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]);
        let bytes = [head(FLAGS, 0x4020_1000, 24), unknown, available, list].concat();
        let info = IommuInfo::parse(&bytes).unwrap();
        assert_eq!(info.page(), ByteLen::new(4096));
        assert_eq!(info.mappings_left, Some(65535));
        let ranges: Vec<_> = info.ranges.iter().map(|range| (range.first.get(), range.last.get())).collect();
        assert_eq!(ranges, [(0, 0xfedf_ffff), (0xfef0_0000, (1 << 39) - 1)]);
    }

    #[test]
    fn iommufds_addresses_are_taken_in_pages() {
        let range = |first, last| IovaRange { first: Iova::new(first), last: Iova::new(last) };
        let info = IommuInfo::from_ranges(1, vec![range(0, 0xfedf_ffff)]).unwrap();
        assert_eq!(info.page(), ByteLen::from_usize(rustix::param::page_size()));
        let info = IommuInfo::from_ranges(1 << 16, vec![range(0, 0xfedf_ffff)]).unwrap();
        assert_eq!(info.page(), ByteLen::new(1 << 16));
        assert!(info.page_sizes & (1 << 21) != 0, "larger pages may be there");
        assert_eq!(IommuInfo::from_ranges(1, Vec::new()), Err(IommuInfoError::NoRanges));
        for (alignment, range) in [(0, range(0, 1)), (3, range(0, 1)), (4096, range(2, 1))] {
            let refused = IommuInfo::from_ranges(alignment, vec![range]);
            assert_eq!(refused, Err(IommuInfoError::Malformed(Malformed)));
        }
    }

    #[test]
    fn an_answer_without_addresses_is_refused() {
        let without = [head(abi::VFIO_IOMMU_INFO_PGSIZES, 0x1000, 0), ranges(0, 1, &[(0, 1)])].concat();
        assert_eq!(IommuInfo::parse(&without), Err(IommuInfoError::NoRanges));
        let empty = [head(FLAGS, 0x1000, 24), ranges(0, 0, &[])].concat();
        assert_eq!(IommuInfo::parse(&empty), Err(IommuInfoError::NoRanges));
        assert_eq!(IommuInfo::parse(&head(FLAGS, 0, 24)), Err(IommuInfoError::Malformed(Malformed)));
    }

    #[test]
    fn a_count_that_exceeds_the_answer_is_refused() {
        let bytes = [head(FLAGS, 0x1000, 24), ranges(0, u32::MAX, &[(0, 1)])].concat();
        assert_eq!(IommuInfo::parse(&bytes), Err(IommuInfoError::Malformed(Malformed)));
        let bytes = [head(FLAGS, 0x1000, 24), ranges(0, 1, &[(2, 1)])].concat();
        assert_eq!(IommuInfo::parse(&bytes), Err(IommuInfoError::Malformed(Malformed)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(page_sizes: u64, first in 0_u32..80, rest in vec(0_u8..64, 0..120)) {
            let bytes = [head(FLAGS, page_sizes, first), rest].concat();
            if let Ok(info) = IommuInfo::parse(&bytes) {
                prop_assert!(info.ranges.iter().all(|range| range.first <= range.last));
                prop_assert!(info.page().get() > 0);
            }
        }
    }
}
