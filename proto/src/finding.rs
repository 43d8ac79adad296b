//! What a self-test found. A verdict of the topology says what the kernel accepts; only moving bytes shows what arrives.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an RDMA device was found to do with memory regions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFinding {
    /// On-demand regions.
    pub on_demand: OnDemandFinding,
    /// Whether dma-bufs can be registered.
    pub dmabuf: bool,
}

/// What a device was found to do with on-demand regions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum OnDemandFinding {
    /// It has none, or not for RDMA reads and writes over reliable connections.
    Unsupported {},
    /// Every byte was right.
    Sound {},
    /// Right only for transfers that start at page boundaries, at a path MTU of at least this many bytes.
    PageAlignedOnly {
        /// Bytes.
        min_path_mtu: u32,
    },
    /// Wrong whatever the alignment.
    Broken {
        /// The first transfer that went wrong.
        finding: String,
    },
}

impl fmt::Display for OnDemandFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported {} => f.write_str("the device has no on-demand paging"),
            Self::Sound {} => f.write_str("on-demand paging moves every byte right"),
            Self::PageAlignedOnly { min_path_mtu } => write!(
                f,
                "on-demand paging is right only from page boundaries on, at a path MTU of {min_path_mtu} or more"
            ),
            Self::Broken { finding } => write!(f, "on-demand paging moves wrong bytes ({finding})"),
        }
    }
}
