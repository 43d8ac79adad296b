//! Where the metrics are served.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

use serde::Deserialize;
use thiserror::Error;

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";

/// Where `/metrics` is served.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum MetricsAddress {
    /// At an address and port; port 0 is any that is free.
    Tcp(SocketAddr),
    /// At an absolute path, for the daemon's user and group.
    Unix(PathBuf),
}

/// The text names neither.
#[derive(Debug, Error)]
#[error(
    "{0:?} isn't where metrics can be listened for: expected an address and port, such as 127.0.0.1:9489, or unix: and an \
     absolute path, such as unix:/run/peermemd/state/metrics.sock"
)]
pub struct MetricsAddressError(String);

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || MetricsAddressError(text.to_owned());
        match text.strip_prefix(UNIX).map(PathBuf::from) {
            Some(path) if path.is_absolute() && path.file_name().is_some() => Ok(Self::Unix(path)),
            Some(_) => Err(wrong()),
            None => text.parse().map(Self::Tcp).map_err(|_| wrong()),
        }
    }
}

impl TryFrom<String> for MetricsAddress {
    type Error = MetricsAddressError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}/metrics"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}
