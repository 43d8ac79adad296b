//! The address of a PCI function: domain, bus, device, function.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::text::serde_by_text;

/// A PCI function's address, as sysfs writes it: `0000:3b:00.0`.
///
/// The domain may exceed 16 bits: Intel VMD and Hyper-V use domains from `0x10000` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// Why a text isn't a PCI address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} isn't a PCI address: expected DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal, such as 0000:3b:00.0"
)]
pub struct PciAddressError {
    text: String,
}

impl PciAddress {
    /// The address, or `None` when the device exceeds 31 or the function exceeds 7.
    pub const fn new(domain: u32, bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 { None } else { Some(Self { domain, bus, device, function }) }
    }

    /// The domain (segment) number.
    pub const fn domain(self) -> u32 {
        self.domain
    }

    /// The bus number inside the domain.
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// The device number on the bus, 0 to 31.
    pub const fn device(self) -> u8 {
        self.device
    }

    /// The function number inside the device, 0 to 7.
    pub const fn function(self) -> u8 {
        self.function
    }

    /// Whether both are functions of one physical device.
    pub const fn same_device(self, other: Self) -> bool {
        self.domain == other.domain && self.bus == other.bus && self.device == other.device
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    (digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

fn parse(text: &str) -> Option<PciAddress> {
    let (domain, rest) = text.split_once(':')?;
    let (bus, rest) = rest.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    PciAddress::new(
        hex(domain, 4..=8)?,
        u8::try_from(hex(bus, 2..=2)?).ok()?,
        u8::try_from(hex(device, 2..=2)?).ok()?,
        u8::try_from(hex(function, 1..=1)?).ok()?,
    )
}

impl FromStr for PciAddress {
    type Err = PciAddressError;
    fn from_str(text: &str) -> Result<Self, PciAddressError> {
        parse(text).ok_or_else(|| PciAddressError { text: text.chars().take(40).collect() })
    }
}

serde_by_text!(PciAddress);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn text_and_value_agree(domain: u32, bus: u8, device in 0u8..32, function in 0u8..8) {
            let address = PciAddress::new(domain, bus, device, function).unwrap();
            prop_assert_eq!(address.to_string().parse::<PciAddress>(), Ok(address));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC*") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert_eq!(address.to_string().parse::<PciAddress>(), Ok(address));
            }
        }
    }

    #[test]
    fn near_misses_are_refused() {
        for text in ["3b:00.0", "0000:3b:00", "0000:3b:20.0", "0000:3b:00.8", "0000:3b:00.0 ", "0000:+b:00.0"]
        {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was taken for a PCI address");
        }
    }
}
