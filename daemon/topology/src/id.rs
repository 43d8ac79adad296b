//! What identifies a PCI function and the bus that it hangs below.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::{TextError, by_text, hex};

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
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let number = |text| hex(text, 4..=4).and_then(|n| u16::try_from(n).ok());
        text.split_once(':')
            .and_then(|(vendor, device)| Some(Self { vendor: number(vendor)?, device: number(device)? }))
            .ok_or_else(|| TextError::new("a PCI ID such as 8086:29c0", text))
    }
}

/// The class code, as sysfs writes it (`0x010802`): base class, subclass and programming interface, 8 bits each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Class(u32);

impl Class {
    /// The code's 24 bits; higher ones are dropped.
    pub const fn new(code: u32) -> Self {
        Self(code & 0xff_ffff)
    }

    /// The code.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether it is a PCI-to-PCI bridge: a root port, a port of a switch, or a conventional one.
    pub const fn is_bridge(self) -> bool {
        self.0 >> 8 == 0x0604
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#08x}", self.0)
    }
}

impl FromStr for Class {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let code = text.strip_prefix("0x").and_then(|digits| hex(digits, 6..=6));
        code.map(Self).ok_or_else(|| TextError::new("a PCI class code such as 0x010802", text))
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
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        text.split_once(':')
            .and_then(|(domain, bus)| {
                Some(Self { domain: hex(domain, 4..=8)?, bus: u8::try_from(hex(bus, 2..=2)?).ok()? })
            })
            .ok_or_else(|| TextError::new("a root bus such as 0000:00", text))
    }
}

/// An RDMA device's node GUID, as sysfs writes it: `5054:00ff:fe12:3456`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeGuid([u16; 4]);

impl fmt::Display for NodeGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self([a, b, c, d]) = self;
        write!(f, "{a:04x}:{b:04x}:{c:04x}:{d:04x}")
    }
}

impl FromStr for NodeGuid {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let part = |text| u16::try_from(hex(text, 4..=4)?).ok();
        let parts: Option<Vec<_>> = text.split(':').map(part).collect();
        parts
            .and_then(|parts| parts.try_into().ok())
            .map(Self)
            .ok_or_else(|| TextError::new("a node GUID such as 5054:00ff:fe12:3456", text))
    }
}

by_text!(PciId, Class, RootBus, NodeGuid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        assert_eq!("8086:29c0".parse(), Ok(PciId { vendor: 0x8086, device: 0x29c0 }));
        assert_eq!(PciId { vendor: 0x1b36, device: 0xc }.to_string(), "1b36:000c");
        assert_eq!("0x010802".parse(), Ok(Class::new(0x010802)));
        assert_eq!(Class::new(0x010802).to_string(), "0x010802");
        assert_eq!("10000:e0".parse(), Ok(RootBus { domain: 0x10000, bus: 0xe0 }));
        assert_eq!(RootBus { domain: 0x10000, bus: 0xe0 }.to_string(), "10000:e0");
        let guid = "5054:00ff:fe12:3456";
        assert_eq!(guid.parse::<NodeGuid>().unwrap().to_string(), guid);
    }

    #[test]
    fn near_misses_are_refused() {
        for text in ["", "8086", "8086:29c", "+086:29c0", "8086:29c0:", "0x8086:29c0"] {
            assert!(text.parse::<PciId>().is_err(), "{text:?} was taken for a PCI ID");
        }
        for text in ["", "0x", "010802", "0x10802", "0x0108020", "0x+10802", "0x010802\n"] {
            assert!(text.parse::<Class>().is_err(), "{text:?} was taken for a class code");
        }
        for text in ["", "0000:000", "000:00", "0000:0g", "0000:00:00.0"] {
            assert!(text.parse::<RootBus>().is_err(), "{text:?} was taken for a root bus");
        }
        for text in ["", "5054:00ff:fe12", "5054:00ff:fe12:3456:0", "5054:00ff:fe12:345"] {
            assert!(text.parse::<NodeGuid>().is_err(), "{text:?} was taken for a GUID");
        }
    }
}
