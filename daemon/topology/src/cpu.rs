//! The CPU, as far as peer-to-peer DMA asks for it.

use serde::{Deserialize, Serialize};

/// An x86 CPU's maker and family. Other architectures have none, as far as the kernel's rule goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// As the CPU says: `AuthenticAMD`, `GenuineIntel`.
    pub vendor: String,
    /// The family, base and extended added up: 0x17 is the first Zen.
    pub family: u32,
}

impl Cpu {
    /// The first processor of a `/proc/cpuinfo`, or `None` when it names no vendor and family, as on other
    /// architectures than x86.
    pub fn from_cpuinfo(text: &str) -> Option<Self> {
        let first = text.split("\n\n").next()?;
        let field = |name| {
            let fields = first.lines().filter_map(|line| line.split_once(':'));
            fields.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
        };
        Some(Self { vendor: field("vendor_id")?.to_owned(), family: field("cpu family")?.parse().ok()? })
    }

    /// Whether every host bridge of this CPU passes peer-to-peer traffic: `cpu_supports_p2pdma` in
    /// `drivers/pci/p2pdma.c`. It looks at the first CPU only, and Hygon's Zen isn't AMD's.
    pub fn passes_peer_to_peer(&self) -> bool {
        self.vendor == "AuthenticAMD" && self.family >= 0x17
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vendor: &str, family: u32) -> Cpu {
        Cpu { vendor: vendor.to_owned(), family }
    }

    #[test]
    fn the_first_processor_counts() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 23\nmodel\t\t: 1\n\n\
                    processor\t: 1\nvendor_id\t: GenuineIntel\ncpu family\t: 6\n";
        assert_eq!(Cpu::from_cpuinfo(text), Some(cpu("AuthenticAMD", 0x17)));
    }

    #[test]
    fn other_architectures_have_none() {
        assert_eq!(Cpu::from_cpuinfo("processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd0c\n"), None);
        assert_eq!(Cpu::from_cpuinfo("vendor_id : AuthenticAMD\ncpu family : twenty\n"), None);
        assert_eq!(Cpu::from_cpuinfo(""), None);
    }

    #[test]
    fn zen_and_newer_pass() {
        assert!(cpu("AuthenticAMD", 0x17).passes_peer_to_peer());
        assert!(cpu("AuthenticAMD", 0x1a).passes_peer_to_peer());
        assert!(!cpu("AuthenticAMD", 0x16).passes_peer_to_peer());
        assert!(!cpu("GenuineIntel", 0x17).passes_peer_to_peer());
        assert!(!cpu("HygonGenuine", 0x18).passes_peer_to_peer());
    }
}
