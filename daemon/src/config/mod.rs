//! The TOML file, read into types that can't be wrong.
//!
//! What the file says ([`file`]) and what the daemon runs with ([`Settings`]) are two types; the only way from one to the
//! other checks everything, and its errors name the file and the line.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use peermem_proto::{ByteLen, RegionName};
use peermem_topology::DeviceName;

use crate::{
    audit::Namespace,
    core::Limits,
    policy::Policy,
    provider::{Exporters, P2pmemRules},
    vfio::Rules as VfioRules,
};

mod dax;
mod error;
mod file;
mod metrics;
mod policy;
mod validate;
mod vfio;

pub use error::ConfigError;
pub use metrics::{MetricsAddress, MetricsAddressError};

/// Where the config is, unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/peermemd/peermemd.toml";

/// What the daemon runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The socket, when the config names one.
    pub socket: Option<PathBuf>,
    /// The journal, when the config names one.
    pub journal: Option<PathBuf>,
    /// The journal namespace that grants and refusals go to; `None` for the log.
    pub audit_namespace: Option<Namespace>,
    /// Where `/metrics` is served; `None` for nowhere.
    pub metrics: Option<MetricsAddress>,
    /// What users and connections may hold.
    pub limits: Limits,
    /// What one connection may cost.
    pub connections: Connections,
    /// Which PCI functions become regions; `None` for none.
    pub p2pmem: Option<P2pmemRules>,
    /// Whose dma-bufs may be registered.
    pub exporters: Exporters,
    /// Emulated regions.
    pub emulated: Vec<(RegionName, ByteLen)>,
    /// What the daemon takes of the functions that are bound to vfio-pci.
    pub vfio: VfioRules,
    /// Which device DAX become regions, under which names.
    pub dax: BTreeMap<DeviceName, RegionName>,
    /// Who may do what.
    pub policy: Policy,
}

/// What connections may cost the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// Connections that one user may have. Root isn't bound.
    pub per_user: u64,
    /// Watchers that one user may have. Root isn't bound.
    pub watchers_per_user: u64,
    /// Requests that one user may make in a second; more wait for their turn. Root isn't bound.
    pub requests_per_second: u64,
    /// How long the rest of a begun message, or room for a reply, may be missing.
    pub stall: Duration,
    /// How long clients may take to fetch their last replies when the daemon stops.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        validate::defaults()
    }
}

/// Whether an emulated region may have that size.
///
/// # Errors
/// A sentence that says what was expected.
pub fn check_emulated_size(size: ByteLen) -> Result<(), String> {
    validate::check_emulated_size(size)
}

/// Reads the file at `path`. PCI functions that it names must be below `sysfs`.
///
/// # Errors
/// [`ConfigError`], with the line that is wrong and what was expected there.
pub fn load(path: &Path, sysfs: &Path) -> Result<Settings, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
    parse(path, &text, sysfs)
}

/// Reads a config's text; `path` is for the messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, sysfs: &Path) -> Result<Settings, ConfigError> {
    let raw: file::File = toml::from_str(text)
        .map_err(|error| ConfigError::at(path, text, error.span(), &error::in_toml_words(error.message())))?;
    validate::validate(raw, sysfs)
        .map_err(|wrong| ConfigError::at(path, text, Some(wrong.span), &wrong.message))
}

#[cfg(test)]
mod tests;
