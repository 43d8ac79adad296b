//! The machine-readable interface definition, and what a varlink service says about itself.

use serde::{Deserialize, Serialize};

/// The name of the interface.
pub const BROKER: &str = "io.peermem.Broker";

/// The name of the interface that every varlink service has.
pub const SERVICE: &str = "org.varlink.service";

/// The definition of [`BROKER`] in varlink's interface language.
pub const BROKER_DEFINITION: &str = include_str!("../io.peermem.Broker.varlink");

/// The definition of [`SERVICE`], as the varlink specification has it.
pub const SERVICE_DEFINITION: &str = include_str!("../org.varlink.service.varlink");

/// What `org.varlink.service.GetInfo` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceInfo {
    /// Who made the service.
    pub vendor: String,
    /// Its name.
    pub product: String,
    /// Its version.
    pub version: String,
    /// Where it is described.
    pub url: String,
    /// The names of its interfaces.
    pub interfaces: Vec<String>,
}

/// The parameter of `org.varlink.service.GetInterfaceDescription`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GetInterfaceDescription {
    /// The interface.
    pub interface: String,
}

/// What `org.varlink.service.GetInterfaceDescription` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceDescription {
    /// The definition in varlink's interface language.
    pub description: String,
}

/// The definition of an interface served here.
pub fn definition(interface: &str) -> Option<&'static str> {
    match interface {
        BROKER => Some(BROKER_DEFINITION),
        SERVICE => Some(SERVICE_DEFINITION),
        _ => None,
    }
}
