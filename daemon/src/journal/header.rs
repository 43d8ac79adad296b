//! The first line of a journal: what it is, when it counts, and whose it is.

use std::{fmt, fs, io};

use serde::{Deserialize, Serialize};

/// The format that this version writes, and the only one that it reads.
pub(super) const FORMAT: u32 = 1;

/// Names one boot of the machine: a lease of an earlier one has ended with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    /// This boot's.
    ///
    /// # Errors
    /// When `/proc` isn't there.
    pub fn current() -> io::Result<Self> {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| Self::new(text.trim()))
    }

    /// A boot by its name, which may be any text.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }
}

/// Names one lease table for its clients: 128 random bits, drawn when the journal was begun. A client that finds another
/// instance than before knows that its leases are gone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Instance(u128);

impl Instance {
    /// Draws one.
    pub(super) fn random() -> io::Result<Self> {
        crate::random::bits().map(Self)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Instance({self})")
    }
}

impl From<Instance> for String {
    fn from(instance: Instance) -> Self {
        instance.to_string()
    }
}

impl TryFrom<String> for Instance {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let instance = u128::from_str_radix(&text, 16).map(Self).ok();
        instance.filter(|instance| instance.to_string() == text).ok_or_else(|| {
            format!(
                "{:?} isn't an instance: expected 32 hexadecimal digits",
                text.chars().take(40).collect::<String>()
            )
        })
    }
}

/// All that every format's first line has.
#[derive(Debug, Deserialize)]
pub(super) struct Format {
    pub(super) peermem_lease_journal: u32,
}

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Header {
    peermem_lease_journal: u32,
    pub(super) boot_id: BootId,
    pub(super) instance: Instance,
}

impl Header {
    /// The header of a journal that begins now.
    pub(super) fn fresh(boot_id: BootId) -> io::Result<Self> {
        Ok(Self { peermem_lease_journal: FORMAT, boot_id, instance: Instance::random()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_its_32_digits() {
        let text = "\"000000000000000000000000000000ff\"";
        let instance: Instance = serde_json::from_str(text).unwrap();
        assert_eq!(instance, Instance(255));
        assert_eq!(serde_json::to_string(&instance).unwrap(), text);
        for near_miss in
            ["\"ff\"", "\"+00000000000000000000000000000ff\"", "\"000000000000000000000000000000FF\""]
        {
            assert!(serde_json::from_str::<Instance>(near_miss).is_err(), "{near_miss}");
        }
    }

    #[test]
    fn two_instances_differ() {
        assert_ne!(Instance::random().unwrap(), Instance::random().unwrap());
    }
}
