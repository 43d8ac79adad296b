//! The three kinds of address that device memory has, kept apart.
//!
//! The CPU's physical address, the address that travels inside one PCI hierarchy and the address that one device
//! behind its IOMMU must emit are three different numbers for the same byte. On the wire each is a hexadecimal
//! string (`"0x380000000000"`): JSON numbers lose meaning above 2^53 in some clients.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{device::Initiator, text::serde_by_text};

/// Why a text isn't an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} isn't an address: expected 0x and 1 to 16 hexadecimal digits")]
pub struct AddressError {
    text: String,
}

fn parse_hex(text: &str) -> Result<u64, AddressError> {
    text.strip_prefix("0x")
        .filter(|digits| (1..=16).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or_else(|| AddressError { text: text.chars().take(40).collect() })
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u64);

        impl $name {
            /// Wraps the number; the caller vouches for the kind of address it is.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }

            /// The number, for handing to the kernel or a device of the same address kind.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The address `bytes` further on, or `None` past the end of the address space.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = AddressError;
            fn from_str(text: &str) -> Result<Self, AddressError> {
                parse_hex(text).map(Self)
            }
        }

        serde_by_text!($name);
    };
}

address! {
    /// What the CPU sees: an address in the host's physical address space, as in `/sys/.../resource`.
    PhysAddr
}
address! {
    /// What travels inside one PCI hierarchy: the value a BAR register holds. Meaningless outside that hierarchy.
    BusAddr
}
address! {
    /// An I/O virtual address: what one initiator emits. Only [`DmaAddr`], which names that initiator, is handed out.
    Iova
}

/// What one initiator must emit to reach the memory; it carries that initiator, because for any other device the
/// number means something else.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DmaAddr {
    /// The only device for which `iova` is valid.
    pub initiator: Initiator,
    /// The address as that device emits it.
    pub iova: Iova,
}

impl fmt::Display for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as seen by {}", self.iova, self.initiator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_travel_as_hexadecimal_strings() {
        let top = PhysAddr::new(u64::MAX);
        assert_eq!(serde_json::to_string(&top).unwrap(), "\"0xffffffffffffffff\"");
        assert_eq!(serde_json::from_str::<PhysAddr>("\"0xffffffffffffffff\"").unwrap(), top);
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in ["", "0x", "12", "0x+1", "0x 1", "0x12345678123456781", "-0x1", "0xg"] {
            assert!(text.parse::<BusAddr>().is_err(), "{text:?} was taken for an address");
        }
        assert!(serde_json::from_str::<PhysAddr>("4096").is_err(), "a JSON number was taken for an address");
    }

    #[test]
    fn the_end_of_the_address_space_is_not_passed() {
        assert_eq!(BusAddr::new(u64::MAX).checked_add(1), None);
        assert_eq!(BusAddr::new(1).checked_add(2), Some(BusAddr::new(3)));
    }
}
