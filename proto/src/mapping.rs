//! What a mapping is made of: extent, direction, method, route, revocation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    address::DmaAddr,
    device::Initiator,
    finding::DeviceFinding,
    pci::PciAddress,
    size::{ByteLen, ByteRange},
};

/// Which part of a region a mapping covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// That many bytes, wherever the pool has them.
    Size(ByteLen),
    /// Exactly these bytes of a window.
    Range(ByteRange),
    /// The window from its start to its end.
    Whole,
}

/// What the initiator does with the memory.
///
/// The kernel's `enum dma_data_direction` names the directions from the CPU's side, which says nothing when two
/// devices talk; these are named from the initiator's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The initiator only reads device memory.
    Read,
    /// The initiator only writes device memory.
    Write,
    /// Both.
    Bidirectional,
}

impl Direction {
    /// Whether the initiator may write.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Bidirectional)
    }
}

/// How a mapping becomes an RDMA memory region (MR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The fd is a dma-buf: `ibv_reg_dmabuf_mr`.
    Dmabuf,
    /// mmap the fd, then `ibv_reg_mr` with `IBV_ACCESS_ON_DEMAND`: P2PDMA pages can't be pinned for long.
    OnDemand,
    /// mmap the fd, then a plain pinned `ibv_reg_mr`.
    Pinned,
}

/// The way that the bytes take between the two devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Route {
    /// Inside one PCI hierarchy, below a common upstream bridge: the bus address is enough.
    BusAddress {
        /// `true` when the ACS control register of every port on the path was read and none redirects;
        /// `false` when some could not be read, so that a redirection may hide there.
        acs_checked: bool,
    },
    /// Up through the host bridge and down again.
    HostBridge {
        /// The root bus that both reach, as `DOMAIN:BUS`.
        bridge: String,
        /// The ports whose ACS settings send the traffic up, although a shorter way exists.
        redirected_by: Vec<PciAddress>,
    },
    /// The initiator emits the path's [`Path::dma`], which its IOMMU translates. No IOMMU, and no daemon, tells which ports the
    /// bytes then pass.
    Iommu {},
    /// No device-to-device transaction: a CPU copies (soft-RoCE, emulated regions).
    Software {},
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Dmabuf => "dma-buf",
            Self::OnDemand => "on-demand",
            Self::Pinned => "pinned",
        })
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Bidirectional => "bidirectional",
        })
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BusAddress { acs_checked: true } => f.write_str("bus address"),
            Self::BusAddress { acs_checked: false } => f.write_str("bus address (ACS not readable)"),
            Self::HostBridge { bridge, redirected_by } => {
                write!(f, "host bridge {bridge}")?;
                for (i, port) in redirected_by.iter().enumerate() {
                    write!(f, "{}{port}", if i == 0 { ", redirected by " } else { " and " })?;
                }
                Ok(())
            }
            Self::Iommu {} => f.write_str("IOMMU"),
            Self::Software {} => f.write_str("CPU copy"),
        }
    }
}

/// One initiator and its way to the memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Path {
    /// The device that does the DMA.
    pub initiator: Initiator,
    /// The way that its bytes take.
    pub route: Route,
    /// Where the initiator sees the memory; for initiators that the daemon owns ([`Initiator::Vfio`]) only: all others get their
    /// address from their driver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dma: Option<DmaAddr>,
    /// What the self-test found of the device; absent for devices that it doesn't test, or hasn't yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<DeviceFinding>,
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.initiator, self.route)?;
        match &self.dma {
            Some(DmaAddr { iova, .. }) => write!(f, " at {iova}"),
            None => Ok(()),
        }
    }
}

/// Whether the end of a lease takes the memory away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// The exporter takes the memory back, whatever the client does.
    Enforced,
    /// The client is told, and must let go: its mmap and MRs keep working until it does.
    Advisory,
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enforced => "enforced",
            Self::Advisory => "advisory",
        })
    }
}
