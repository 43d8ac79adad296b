//! A port's state and limits.

use peermem_proto::ByteLen;
use peermem_verbs_sys as sys;
use serde::{Deserialize, Serialize};

use super::number::Mtu;

/// Whether a port carries traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortState {
    /// No link.
    Down,
    /// Link, not yet configured (InfiniBand without a subnet manager stays here).
    Initializing,
    /// Ready.
    Active,
    /// A value that `verbs.h` doesn't name.
    Unknown,
}

/// What the link is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// InfiniBand: peers are addressed by LID.
    InfiniBand,
    /// Ethernet (RoCE): peers are addressed by GID.
    Ethernet,
    /// iWARP and others.
    Unspecified,
}

/// What a port says of itself (`ibv_query_port(3)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAttributes {
    /// Whether it carries traffic.
    pub state: PortState,
    /// What the link is made of.
    pub link_layer: LinkLayer,
    /// The path MTU in use; on Ethernet the largest that fits into the interface's MTU.
    pub active_mtu: Option<Mtu>,
    /// The largest path MTU the port can be configured for.
    pub max_mtu: Option<Mtu>,
    /// The longest message.
    pub max_message: ByteLen,
    /// The local identifier that a subnet manager gave; 0 on Ethernet.
    pub lid: u16,
    /// Entries of the GID table, valid or not.
    pub gid_table_len: u32,
    /// Packets need a global route header, also on InfiniBand.
    pub grh_required: bool,
}

impl PortAttributes {
    pub(super) fn from_abi(raw: &sys::ibv_port_attr) -> Self {
        Self {
            state: match raw.state {
                sys::IBV_PORT_DOWN => PortState::Down,
                sys::IBV_PORT_INIT | sys::IBV_PORT_ARMED => PortState::Initializing,
                sys::IBV_PORT_ACTIVE | sys::IBV_PORT_ACTIVE_DEFER => PortState::Active,
                _ => PortState::Unknown,
            },
            link_layer: match raw.link_layer {
                sys::IBV_LINK_LAYER_INFINIBAND => LinkLayer::InfiniBand,
                sys::IBV_LINK_LAYER_ETHERNET => LinkLayer::Ethernet,
                _ => LinkLayer::Unspecified,
            },
            active_mtu: Mtu::from_abi(raw.active_mtu),
            max_mtu: Mtu::from_abi(raw.max_mtu),
            max_message: ByteLen::new(u64::from(raw.max_msg_sz)),
            lid: raw.lid,
            gid_table_len: u32::try_from(raw.gid_tbl_len).unwrap_or_default(),
            grh_required: raw.flags & sys::IBV_QPF_GRH_REQUIRED != 0,
        }
    }
}
