//! Names and numbers of regions and leases.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::serde_by_text;

/// A region's name, unique on the node: 1 to 64 of `a-z A-Z 0-9 . _ : -`, not starting with a dash.
///
/// It stands in file names, metric labels and log fields, hence the small alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(String);

/// Why a text isn't a region's name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} can't name a region: expected 1 to 64 of a-z A-Z 0-9 . _ : - and no dash in front")]
pub struct RegionNameError {
    text: String,
}

impl RegionName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RegionName {
    type Err = RegionNameError;
    fn from_str(text: &str) -> Result<Self, RegionNameError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:-".contains(&b);
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.to_owned()))
        } else {
            Err(RegionNameError { text: text.chars().take(80).collect() })
        }
    }
}

serde_by_text!(RegionName);

/// A lease's number, never used twice in one daemon's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(u64);

/// Tells the appearances of regions apart: it grows each time one appears on the node. What was made for an older
/// generation of a region is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(u64);

macro_rules! counter {
    ($name:ident) => {
        impl $name {
            /// The first one.
            pub const FIRST: Self = Self(1);

            /// That number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The one after this. Counting up once a nanosecond would take 584 years to run out.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}
counter!(LeaseId);
counter!(Generation);

impl FromStr for LeaseId {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_alphabet() {
        for good in ["a", "nvme-0000:3b:00.0", "gpu0.vram_1", &"x".repeat(64)] {
            assert_eq!(good.parse::<RegionName>().unwrap().as_str(), good);
        }
        for bad in ["", "-x", "a b", "a/b", "é", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<RegionName>().is_err(), "{bad:?} was taken for a name");
            assert!(serde_json::from_value::<RegionName>(bad.into()).is_err(), "the wire let {bad:?} in");
        }
    }
}
