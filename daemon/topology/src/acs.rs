//! Access Control Services (ACS): whether a port sends peer-to-peer traffic up to the host bridge.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::{TextError, by_text, hex};

/// P2P Request Redirect Enable.
const REQUEST_REDIRECT: u16 = 1 << 2;
/// P2P Completion Redirect Enable.
const COMPLETION_REDIRECT: u16 = 1 << 3;
/// P2P Egress Control Enable.
const EGRESS_CONTROL: u16 = 1 << 5;

/// The ACS Control register (PCI Express Base Specification, "ACS Extended Capability"). Text form: `0x001d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AcsControl(u16);

impl AcsControl {
    /// Wraps the register's value.
    pub const fn new(register: u16) -> Self {
        Self(register)
    }

    /// The register's value.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// Whether the kernel takes it that peer-to-peer requests or completions leave this port upwards:
    /// `pci_bridge_has_acs_redir` in `drivers/pci/p2pdma.c`.
    pub const fn redirects(self) -> bool {
        self.0 & (REQUEST_REDIRECT | COMPLETION_REDIRECT | EGRESS_CONTROL) != 0
    }
}

impl fmt::Display for AcsControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl FromStr for AcsControl {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        text.strip_prefix("0x")
            .and_then(|digits| u16::try_from(hex(digits, 4..=4)?).ok())
            .map(Self)
            .ok_or_else(|| TextError::new("a 16-bit register such as 0x001d", text))
    }
}

by_text!(AcsControl);

/// What is known of a function's ACS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acs {
    /// The function has no ACS capability: it redirects nothing.
    Absent,
    /// The control register, as read.
    Control(AcsControl),
    /// The configuration space can't be read that far: the file was opened without `CAP_SYS_ADMIN`, or the device
    /// is on its way out.
    Unreadable,
}

impl Acs {
    /// Whether this function is known to redirect peer-to-peer traffic upwards.
    pub const fn redirects(self) -> bool {
        matches!(self, Self::Control(control) if control.redirects())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_looks_at_three_of_the_bits() {
        // Source Validation, Translation Blocking, Upstream Forwarding and Direct Translated leave P2P traffic be.
        let others = AcsControl::new(1 << 0 | 1 << 1 | 1 << 4 | 1 << 6);
        assert!(!others.redirects());
        for bit in [2, 3, 5] {
            assert!(AcsControl::new(1 << bit).redirects(), "bit {bit}");
        }
    }

    #[test]
    fn the_value_seen_with_intel_iommu_on_redirects() {
        // SrcValid+ ReqRedir+ CmpltRedir+ UpstreamFwd+: what the kernel sets on root ports with intel_iommu=on.
        assert!(AcsControl::new(0x1d).redirects());
    }
}
