//! The names of stored descriptors.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// How systemd names the sockets that it passes, unless the unit has `FileDescriptorName=`.
const SOCKET_UNIT: &str = ".socket";

/// A name in the store: 1 to 255 printable ASCII characters without `:` (systemd's rule), not that of a socket unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdName(String);

/// Why a text isn't such a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FdNameError {
    /// systemd would refuse it.
    #[error("{text:?} names no stored descriptor: expected 1 to 255 printable ASCII characters without `:`")]
    Invalid {
        /// The text, or its beginning.
        text: String,
    },
    /// It would be taken for a socket of a socket unit.
    #[error("a name that ends in `{SOCKET_UNIT}` is a socket unit's")]
    SocketUnit,
}

impl FdName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for FdName {
    type Err = FdNameError;
    fn from_str(text: &str) -> Result<Self, FdNameError> {
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b':';
        if !(1..=255).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(FdNameError::Invalid { text: text.chars().take(40).collect() });
        }
        if text.ends_with(SOCKET_UNIT) {
            return Err(FdNameError::SocketUnit);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_systemd_takes() {
        for text in ["region-7", "x", "p2pmem 0000.03.00.0", &"x".repeat(255)] {
            assert_eq!(text.parse::<FdName>().unwrap().as_str(), text);
        }
        // A newline would begin another line of the message.
        for text in ["", "a:b", "a\nFDSTOREREMOVE=1", "é", "\u{7f}", &"x".repeat(256)] {
            assert!(matches!(text.parse::<FdName>(), Err(FdNameError::Invalid { .. })), "{text:?}");
        }
        assert_eq!("peermemd.socket".parse::<FdName>(), Err(FdNameError::SocketUnit));
    }
}
