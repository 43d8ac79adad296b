//! The device that does the DMA, by name.

use std::{fmt, str::FromStr};

use thiserror::Error;

use crate::{
    pci::{PciAddress, PciAddressError},
    text::serde_by_text,
};

/// The name of an RDMA device as in `/sys/class/infiniband`: 1 to 63 of `a-z A-Z 0-9 _ . -`, not starting with
/// a dot or a dash (the kernel's `IB_DEVICE_NAME_MAX` is 64 with the final NUL).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RdmaName(String);

impl RdmaName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RdmaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for RdmaName {
    type Err = InitiatorError;
    fn from_str(text: &str) -> Result<Self, InitiatorError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with(['.', '-']) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InitiatorError::RdmaName(text.chars().take(80).collect()))
        }
    }
}

serde_by_text!(RdmaName);

/// The device that reads or writes the memory. Text form: `rdma:mlx5_0`, `pci:0000:3b:00.0`,
/// `vfio:0000:3b:00.0` or `emulated`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Initiator {
    /// An RDMA device, by its name.
    Rdma(RdmaName),
    /// Any PCI function that does DMA and that a driver of the kernel's has, such as an NVMe controller.
    Pci(PciAddress),
    /// A PCI function bound to vfio-pci that the daemon owns: it reaches what the daemon maps for it, at a
    /// [`DmaAddr`](crate::DmaAddr), and nothing else.
    Vfio(PciAddress),
    /// No device at all: it stands in for one where the daemon runs with emulated regions only.
    Emulated,
}

/// Why a text doesn't name an initiator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InitiatorError {
    /// None of the four forms.
    #[error(
        "{0:?} doesn't name an initiator: expected rdma:NAME, pci:DOMAIN:BUS:DEVICE.FUNCTION, \
         vfio:DOMAIN:BUS:DEVICE.FUNCTION or emulated"
    )]
    Form(String),
    /// `rdma:` with something that can't be a device's name.
    #[error("{0:?} can't be the name of an RDMA device: see `ls /sys/class/infiniband`")]
    RdmaName(String),
    /// `pci:` or `vfio:` with something else than a PCI address.
    #[error("in the initiator's name: {0}")]
    PciAddress(#[from] PciAddressError),
}

impl fmt::Display for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rdma(name) => write!(f, "rdma:{name}"),
            Self::Pci(address) => write!(f, "pci:{address}"),
            Self::Vfio(address) => write!(f, "vfio:{address}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for Initiator {
    type Err = InitiatorError;
    fn from_str(text: &str) -> Result<Self, InitiatorError> {
        match text.split_once(':') {
            Some(("rdma", name)) => Ok(Self::Rdma(name.parse()?)),
            Some(("pci", address)) => Ok(Self::Pci(address.parse()?)),
            Some(("vfio", address)) => Ok(Self::Vfio(address.parse()?)),
            None if text == "emulated" => Ok(Self::Emulated),
            _ => Err(InitiatorError::Form(text.chars().take(80).collect())),
        }
    }
}

serde_by_text!(Initiator);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "(rdma:|pci:|vfio:)?\\PC*") {
            if let Ok(initiator) = text.parse::<Initiator>() {
                prop_assert_eq!(initiator.to_string().parse::<Initiator>(), Ok(initiator));
            }
        }
    }

    #[test]
    fn the_four_forms() {
        for text in ["rdma:mlx5_0", "pci:0000:3b:00.0", "vfio:0000:3b:00.0", "emulated"] {
            assert_eq!(text.parse::<Initiator>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for text in ["rdma:../x", "rdma:", "rdma:a/b", "rdma:.", "mlx5_0", "emulated:x", "pci:3b:00.0"] {
            assert!(text.parse::<Initiator>().is_err(), "{text:?} was taken for an initiator");
        }
    }
}
