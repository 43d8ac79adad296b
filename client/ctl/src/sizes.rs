//! Lengths to measure, as they are written on a command line.

use std::str::FromStr;

use peermem::proto::{ByteLen, size::ByteLenError};
use thiserror::Error;

/// Lengths, the smallest first; at least one, none of them zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sizes(Vec<ByteLen>);

/// Why a text names no sizes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SizesError {
    #[error(transparent)]
    Size(#[from] ByteLenError),
    #[error("nothing can be measured with no bytes: begin at 1B")]
    Zero,
    #[error("{first}..{last} counts down: put the smaller size first")]
    Backwards { first: ByteLen, last: ByteLen },
    #[error("{0} is more than one message carries, which is 1GiB")]
    TooLong(ByteLen),
}

impl Sizes {
    const LONGEST: ByteLen = ByteLen::new(1 << 30);

    /// All of them, the smallest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ByteLen> {
        self.0.iter().copied()
    }

    /// The last one.
    pub(crate) fn longest(&self) -> ByteLen {
        self.iter().max().unwrap_or_default()
    }
}

impl FromStr for Sizes {
    type Err = SizesError;
    fn from_str(text: &str) -> Result<Self, SizesError> {
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (first.parse()?, last.parse()?),
            None => {
                let only: ByteLen = text.parse()?;
                (only, only)
            }
        };
        if first.is_zero() {
            return Err(SizesError::Zero);
        }
        if last < first {
            return Err(SizesError::Backwards { first, last });
        }
        if last > Self::LONGEST {
            return Err(SizesError::TooLong(last));
        }
        let doubled = std::iter::successors(Some(first), |size| Some(ByteLen::new(size.get() * 2)));
        let mut sizes: Vec<_> = doubled.take_while(|size| *size < last).collect();
        sizes.push(last);
        Ok(Self(sizes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(text: &str) -> Vec<u64> {
        text.parse::<Sizes>().unwrap().iter().map(ByteLen::get).collect()
    }

    #[test]
    fn a_range_is_doubled_through_and_has_both_ends() {
        assert_eq!(sizes("4KiB..16KiB"), [4096, 8192, 16384]);
        assert_eq!(sizes("3..10"), [3, 6, 10]);
        assert_eq!(sizes("64KiB"), [65536]);
        assert_eq!(sizes("4KiB..4KiB"), [4096]);
    }

    #[test]
    fn what_can_not_be_measured_is_refused_in_words() {
        for (text, words) in [
            ("4K..4M", "use B, KiB, MiB"),
            ("0..4KiB", "begin at 1B"),
            ("8KiB..4KiB", "the smaller size first"),
            ("4KiB..2GiB", "1GiB"),
            ("", "isn't a size"),
            ("4KiB..", "isn't a size"),
        ] {
            let error = text.parse::<Sizes>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
