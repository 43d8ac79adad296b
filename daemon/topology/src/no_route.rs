//! Why two devices can't talk, and what to do.

use std::fmt;

use peermem_proto::{Initiator, PciAddress, RdmaName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::id::{PciId, RootBus};

/// Why there is no route from an initiator to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoRoute {
    /// No such PCI function on this node.
    #[error("PCI function {0} isn't on this node: see /sys/bus/pci/devices")]
    UnknownProvider(PciAddress),
    /// No such device on this node.
    #[error("{0} isn't on this node: see /sys/class/infiniband and /sys/bus/pci/devices")]
    UnknownInitiator(Initiator),
    /// The RDMA device does DMA, and sits on a bus other than PCI.
    #[error(
        "{0} isn't a PCI device, and the kernel maps peer memory for PCI devices only: use an RDMA device on PCI"
    )]
    NotPci(RdmaName),
    /// The way leads through the host bridge, which isn't known to let it pass.
    #[error("they share no upstream bridge, and {0}: put both devices below one PCIe switch")]
    HostBridge(HostBridgeRefusal),
    /// They share an upstream bridge, but ACS sends the traffic to the host bridge, which isn't known to let it pass.
    #[error(
        "ACS redirects peer-to-peer traffic to the host bridge at {}, and {refusal}: boot with \
         pci=disable_acs_redir={}, which gives up the isolation between the devices below",
        Joined(.ports, " and "), Joined(.ports, ";")
    )]
    Redirected {
        /// The redirecting functions, from the provider up and then from the initiator up.
        ports: Vec<PciAddress>,
        /// Why the host bridge is no way either.
        refusal: HostBridgeRefusal,
    },
}

/// Why the kernel doesn't let peer-to-peer traffic through a host bridge.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostBridgeRefusal {
    /// Neither the CPU nor the host bridge is known to pass it.
    #[error(
        "host bridge {first_device} of root bus {root} isn't in the kernel's list (drivers/pci/p2pdma.c), nor is \
         the CPU an AMD Zen"
    )]
    Unlisted {
        /// The root bus below the host bridge.
        root: RootBus,
        /// The first device on it, by which the kernel knows the host bridge.
        first_device: PciId,
    },
    /// The root bus begins with a device that the kernel doesn't take for the host bridge: neither device 00.0 nor a
    /// root port.
    #[error(
        "root bus {root} has no device by which the kernel knows its host bridge, nor is the CPU an AMD Zen"
    )]
    Unidentified {
        /// The root bus.
        root: RootBus,
    },
    /// The host bridge passes it between its own devices only, and the other device is below another one.
    #[error(
        "host bridge {first_device} of root bus {root} passes peer-to-peer traffic between its own devices only, \
         and the other device is below root bus {other}"
    )]
    SameBridgeOnly {
        /// The root bus below the host bridge.
        root: RootBus,
        /// The first device on it.
        first_device: PciId,
        /// The other device's root bus.
        other: RootBus,
    },
}

/// Addresses with a separator in between.
pub(crate) struct Joined<'a>(pub(crate) &'a [PciAddress], pub(crate) &'static str);

impl fmt::Display for Joined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.0.iter().enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { self.1 })?;
        }
        Ok(())
    }
}
