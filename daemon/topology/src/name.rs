//! The names that the kernel gives to devices and drivers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::text::{TextError, by_text};

/// A name out of sysfs, such as `nvme0n1`, `renderD128` or `mlx5_core`: 1 to 63 of `a-z A-Z 0-9 _ . : @ + -`, not starting
/// with a dot. It may be printed and put into a path; a name that isn't like that is left out of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for DeviceName {
    type Err = TextError;
    fn from_str(text: &str) -> Result<Self, TextError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.:@+-".contains(&b);
        if (1..=63).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.') {
            Ok(Self(text.to_owned()))
        } else {
            Err(TextError::new("a device's name such as nvme0n1", text))
        }
    }
}

by_text!(DeviceName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_neither_a_path_nor_an_escape_sequence() {
        for text in ["", ".", "..", "a/b", "a b", "eth0\n", "\u{1b}[2J", &"x".repeat(64)] {
            assert!(text.parse::<DeviceName>().is_err(), "{text:?} was taken for a name");
        }
        for text in ["nvme0n1", "renderD128", "dax0.0", "vfio-pci", "bond0.100", "mlx5_core"] {
            assert_eq!(text.parse::<DeviceName>().unwrap().as_str(), text);
        }
    }
}
