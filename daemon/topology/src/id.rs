//! Names with a text form: a function's vendor and device, and a root bus.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a text names neither a PCI ID nor a root bus.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} isn't {expected}")]
pub struct IdError {
    expected: &'static str,
    text: String,
}

impl IdError {
    fn new(expected: &'static str, text: &str) -> Self {
        Self { expected, text: text.chars().take(40).collect() }
    }
}

/// `text` as a number, when it is that many hexadecimal digits and nothing else.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    (digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

/// Vendor and device, as `lspci -n` writes them: `8086:29c0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciId {
    /// Who made it, by the PCI-SIG's number.
    pub vendor: u16,
    /// What it is, by the vendor's number.
    pub device: u16,
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

impl FromStr for PciId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = |text| hex(text, 4..=4).and_then(|n| u16::try_from(n).ok());
        text.split_once(':')
            .and_then(|(vendor, device)| Some(Self { vendor: number(vendor)?, device: number(device)? }))
            .ok_or_else(|| IdError::new("a PCI ID such as 8086:29c0", text))
    }
}

/// The bus below a host bridge, as `DOMAIN:BUS`: sysfs's `/sys/devices/pci0000:00` is `0000:00`.
///
/// The kernel's `pci_find_host_bridge` tells host bridges apart by their root bus, and so does this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootBus {
    /// The domain (segment) number.
    pub domain: u32,
    /// The bus number inside the domain.
    pub bus: u8,
}

impl fmt::Display for RootBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.domain, self.bus)
    }
}

impl FromStr for RootBus {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        text.split_once(':')
            .and_then(|(domain, bus)| {
                Some(Self { domain: hex(domain, 4..=8)?, bus: u8::try_from(hex(bus, 2..=2)?).ok()? })
            })
            .ok_or_else(|| IdError::new("a root bus such as 0000:00", text))
    }
}

macro_rules! serde_by_string {
    ($($type:ty),+) => {$(
        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )+};
}
serde_by_string!(PciId, RootBus);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        assert_eq!("8086:29c0".parse(), Ok(PciId { vendor: 0x8086, device: 0x29c0 }));
        assert_eq!("10000:e0".parse(), Ok(RootBus { domain: 0x10000, bus: 0xe0 }));
        assert_eq!(RootBus { domain: 0x10000, bus: 0xe0 }.to_string(), "10000:e0");
        assert_eq!(PciId { vendor: 0x1b36, device: 0xc }.to_string(), "1b36:000c");
    }

    #[test]
    fn near_misses_are_refused() {
        for text in ["", "8086", "8086:29c", "+086:29c0", "8086:29c0:", "0x8086:29c0"] {
            assert!(text.parse::<PciId>().is_err(), "{text:?} was taken for a PCI ID");
        }
        for text in ["", "0000:000", "000:00", "0000:0g", "0000:00:00.0"] {
            assert!(text.parse::<RootBus>().is_err(), "{text:?} was taken for a root bus");
        }
    }
}
