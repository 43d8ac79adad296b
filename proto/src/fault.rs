//! What fails below the daemon.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{id::RegionName, pci::PciAddress};

/// Something failed below the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Fault {
    /// The kernel said no to a provider.
    #[error("region {region}: {operation} failed: {reason}")]
    #[serde(rename = "io.peermem.Broker.ProviderFailed")]
    ProviderFailed {
        /// The region.
        region: RegionName,
        /// What the provider tried.
        operation: String,
        /// The kernel's answer, in words and with what it means here.
        reason: String,
    },
    /// The kernel said no about a device that the daemon owns.
    #[error("{device}: {operation} failed: {reason}")]
    #[serde(rename = "io.peermem.Broker.DeviceFailed")]
    DeviceFailed {
        /// The device.
        device: PciAddress,
        /// What was tried.
        operation: String,
        /// The kernel's answer.
        reason: String,
    },
    /// The grant can't be remembered, and a restart would lose it: so it isn't made.
    #[error("the daemon can't write its journal ({reason}), and grants nothing that a restart would lose")]
    #[serde(rename = "io.peermem.Broker.NotRecorded")]
    NotRecorded {
        /// What stands in the way.
        reason: String,
    },
}
