//! Byte counts and byte ranges, with checked arithmetic only.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A number of bytes. Text form: a number with an optional binary unit (`64MiB`, `4KiB`, `512`).
///
/// On the wire it is a JSON integer: sizes stay far below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteLen(u64);

/// Why a text isn't a byte count.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ByteLenError {
    /// Neither a number nor a number with a unit.
    #[error(
        "{0:?} isn't a size: expected a number with an optional unit B, KiB, MiB, GiB or TiB, such as 64MiB"
    )]
    NotASize(String),
    /// `kB`, `MB`, `M` and the like: they mean different things to different people.
    #[error("unit {unit:?} in {text:?} isn't known: use B, KiB, MiB, GiB or TiB (powers of 1024)")]
    UnknownUnit {
        /// The whole text.
        text: String,
        /// Its unit.
        unit: String,
    },
    /// More than 2^64 - 1 bytes.
    #[error("{0:?} is more than 2^64 - 1 bytes")]
    TooLarge(String),
}

const UNITS: [(&str, u32); 5] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];

impl ByteLen {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// That many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// That many bytes; every `usize` fits.
    pub const fn from_usize(bytes: usize) -> Self {
        Self(bytes as u64)
    }

    /// The count.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The count as a memory size, or `None` where it exceeds the address space.
    pub fn to_usize(self) -> Option<usize> {
        usize::try_from(self.0).ok()
    }

    /// Whether this is no bytes at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Whether this is a multiple of `alignment`, which must not be zero.
    pub const fn is_aligned(self, alignment: Self) -> bool {
        self.0.is_multiple_of(alignment.0)
    }

    /// The sum, or `None` above 2^64 - 1.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.0.checked_sub(other.0).map(Self)
    }

    /// The sum, or 2^64 - 1 where it would be more.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero where it would be negative.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for ByteLen {
    /// The largest unit that leaves a whole number: `64MiB`, `4097B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = UNITS
            .into_iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or(("B", 0));
        f.pad(&format!("{}{unit}", self.0 >> shift))
    }
}

impl FromStr for ByteLen {
    type Err = ByteLenError;
    fn from_str(text: &str) -> Result<Self, ByteLenError> {
        let short = || text.chars().take(40).collect::<String>();
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        if number.is_empty() {
            return Err(ByteLenError::NotASize(short()));
        }
        let shift = match unit.trim_start() {
            "" => 0,
            unit => UNITS.into_iter().find_map(|(name, shift)| (name == unit).then_some(shift)).ok_or_else(
                || ByteLenError::UnknownUnit { text: short(), unit: unit.chars().take(16).collect() },
            )?,
        };
        let too_large = || ByteLenError::TooLarge(short());
        let number = number.parse::<u64>().map_err(|_| too_large())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(too_large)
    }
}

/// A range of bytes inside a region: `offset..offset + length`, which never overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ByteRange {
    offset: ByteLen,
    length: ByteLen,
}

impl ByteRange {
    /// The range, or `None` when its end would exceed 2^64 - 1.
    pub fn new(offset: ByteLen, length: ByteLen) -> Option<Self> {
        offset.checked_add(length).map(|_| Self { offset, length })
    }

    /// The first `length` bytes.
    pub const fn from_start(length: ByteLen) -> Self {
        Self { offset: ByteLen::ZERO, length }
    }

    /// Where it starts, from the start of the region.
    pub const fn offset(self) -> ByteLen {
        self.offset
    }

    /// How long it is.
    pub const fn length(self) -> ByteLen {
        self.length
    }

    /// Its first `length` bytes, or all of it where it has fewer, and the rest.
    pub fn split_at(self, length: ByteLen) -> (Self, Self) {
        let front = length.min(self.length);
        let rest =
            Self { offset: ByteLen(self.offset.0 + front.0), length: ByteLen(self.length.0 - front.0) };
        (Self { offset: self.offset, length: front }, rest)
    }

    /// One past its last byte.
    pub const fn end(self) -> ByteLen {
        ByteLen(self.offset.0 + self.length.0)
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:#x}", self.length, self.offset.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_value_agree(bytes: u64) {
            let len = ByteLen::new(bytes);
            prop_assert_eq!(len.to_string().parse::<ByteLen>(), Ok(len));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*") {
            let _ = text.parse::<ByteLen>();
        }

        #[test]
        fn the_parts_of_a_range_make_the_whole(offset in 0..1_u64 << 40, length in 0..1_u64 << 20, at: u64) {
            let range = ByteRange::new(ByteLen::new(offset), ByteLen::new(length)).unwrap();
            let (front, rest) = range.split_at(ByteLen::new(at));
            prop_assert_eq!((front.offset(), rest.end()), (range.offset(), range.end()));
            prop_assert_eq!(front.end(), rest.offset());
            prop_assert_eq!(front.length().get(), at.min(length));
        }

        #[test]
        fn a_range_never_wraps(offset: u64, length: u64) {
            match ByteRange::new(ByteLen::new(offset), ByteLen::new(length)) {
                Some(range) => prop_assert!(range.end() >= range.offset()),
                None => prop_assert!(offset.checked_add(length).is_none()),
            }
        }
    }

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!("64MiB".parse(), Ok(ByteLen::new(64 << 20)));
        assert_eq!("4 KiB".parse(), Ok(ByteLen::new(4096)));
        assert_eq!("512".parse(), Ok(ByteLen::new(512)));
        assert_eq!(ByteLen::new(4097).to_string(), "4097B");
    }

    #[test]
    fn ambiguous_units_name_the_right_ones() {
        let message = "64MB".parse::<ByteLen>().unwrap_err().to_string();
        assert!(message.contains("MiB"), "{message}");
        assert!(matches!("16777216TiB".parse::<ByteLen>(), Err(ByteLenError::TooLarge(_))));
        assert!(matches!("MiB".parse::<ByteLen>(), Err(ByteLenError::NotASize(_))));
        assert!(matches!("-1".parse::<ByteLen>(), Err(ByteLenError::NotASize(_))));
    }
}
