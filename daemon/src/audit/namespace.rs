//! Names of journal namespaces.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Deserialize;
use thiserror::Error;

/// With the folder around it, the path of a socket has no room for more (`sun_path`, unix(7)).
const LONGEST: usize = 64;

/// A journal namespace, see systemd-journald.service(8): a part of the path of its socket and of the name of its unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Namespace(String);

/// The text is no such name.
#[derive(Debug, Error)]
#[error(
    "{0:?} can't name a journal namespace: expected up to {LONGEST} letters, digits and any of : - _ . with no dot in front, such \
     as peermem"
)]
pub struct NamespaceError(String);

impl Namespace {
    /// Where its journal listens.
    pub(super) fn socket(&self) -> PathBuf {
        format!("/run/systemd/journal.{self}/socket").into()
    }
}

impl TryFrom<String> for Namespace {
    type Error = NamespaceError;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.".contains(c);
        let is_name = (1..=LONGEST).contains(&name.len()) && name.chars().all(fits) && !name.starts_with('.');
        if is_name { Ok(Self(name)) } else { Err(NamespaceError(name)) }
    }
}

impl FromStr for Namespace {
    type Err = NamespaceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        name.to_owned().try_into()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
