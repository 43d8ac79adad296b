//! What a device was measured to do with each kind of region.

use peermem_proto::{DeviceFinding, Method, OnDemandFinding};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{constraint::PageAligned, probe::ProbeError};
use crate::verbs::Mtu;

/// What [`probe`](super::probe) found out about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// On-demand regions.
    pub on_demand: OnDemand,
    /// dma-bufs can be registered.
    pub dmabuf: bool,
}

/// How a device treats on-demand regions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OnDemand {
    /// It has none, or not for RDMA reads and writes over reliable connections.
    Unsupported,
    /// Every byte was right in every test.
    Sound,
    /// Right only for transfers that start at page boundaries, over a path MTU of at least this.
    PageAlignedOnly {
        /// The smallest path MTU that was right.
        min_path_mtu: Mtu,
    },
    /// Wrong in a way that no alignment avoids.
    Broken {
        /// The first test that went wrong.
        finding: String,
    },
}

/// Regions of a method that this device can't be trusted with.
#[derive(Debug, Clone, Error)]
pub enum Unusable {
    /// The device has no on-demand paging.
    #[error("the device has no on-demand paging for RDMA reads and writes")]
    NoOnDemand,
    /// The device has it for RDMA reads and writes only.
    #[error("the device has no on-demand paging for {what}")]
    NoOnDemandMessages {
        /// `sends` or `receives`.
        what: &'static str,
    },
    /// It moves wrong bytes.
    #[error("the device moves wrong bytes with on-demand paging, whatever their alignment: {0}")]
    Broken(String),
    /// Nobody knows what it does.
    #[error("on-demand regions aren't used on a device whose self-test could not run")]
    Untested(#[source] ProbeError),
}

impl Quirks {
    /// As it is reported to the daemon.
    pub fn finding(&self) -> DeviceFinding {
        let on_demand = match &self.on_demand {
            OnDemand::Unsupported => OnDemandFinding::Unsupported {},
            OnDemand::Sound => OnDemandFinding::Sound {},
            OnDemand::PageAlignedOnly { min_path_mtu } => {
                OnDemandFinding::PageAlignedOnly { min_path_mtu: min_path_mtu.bytes() }
            }
            OnDemand::Broken { finding } => OnDemandFinding::Broken { finding: finding.clone() },
        };
        DeviceFinding { on_demand, dmabuf: self.dmabuf }
    }

    /// What transfers have to keep to for regions of `method`.
    ///
    /// # Errors
    ///
    /// [`Unusable`] when nothing helps.
    pub fn constraint(&self, method: Method) -> Result<Option<PageAligned>, Unusable> {
        match (method, &self.on_demand) {
            (Method::Pinned | Method::Dmabuf, _) | (Method::OnDemand, OnDemand::Sound) => Ok(None),
            (Method::OnDemand, OnDemand::PageAlignedOnly { min_path_mtu }) => {
                Ok(Some(PageAligned { page_size: page_size(), min_path_mtu: *min_path_mtu }))
            }
            (Method::OnDemand, OnDemand::Unsupported) => Err(Unusable::NoOnDemand),
            (Method::OnDemand, OnDemand::Broken { finding }) => Err(Unusable::Broken(finding.clone())),
        }
    }
}

/// Bytes of a page of this machine.
pub(super) fn page_size() -> u32 {
    // No architecture has pages that don't fit.
    u32::try_from(rustix::param::page_size()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_on_demand_regions_are_constrained() {
        let quirks =
            Quirks { on_demand: OnDemand::PageAlignedOnly { min_path_mtu: Mtu::Bytes4096 }, dmabuf: false };
        assert_eq!(quirks.constraint(Method::Pinned).unwrap(), None);
        let found = quirks.constraint(Method::OnDemand).unwrap().unwrap();
        assert_eq!(found.min_path_mtu, Mtu::Bytes4096);
    }

    #[test]
    fn a_broken_device_is_refused() {
        let on_demand = OnDemand::Broken { finding: "aligned write".into() };
        let quirks = Quirks { on_demand, dmabuf: true };
        assert!(matches!(quirks.constraint(Method::OnDemand), Err(Unusable::Broken(_))));
        assert_eq!(quirks.constraint(Method::Dmabuf).unwrap(), None);
    }
}
