//! The local end of a path: a port that is up, and the GID it is addressed by.

use std::sync::Arc;

use thiserror::Error;

use crate::verbs::{
    Context, DeviceError, GidEntry, LinkLayer, Mtu, Path, PortAttributes, PortState, PreparedQueuePair,
    QpAddress,
};

/// Why a port can't be used.
#[derive(Debug, Clone, Error)]
pub enum PortError {
    /// It can't be asked.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// No traffic.
    #[error("port {port} of {device} isn't active but {state:?}; is its network interface up?")]
    Down {
        /// The device.
        device: String,
        /// The port.
        port: u8,
        /// The state it is in.
        state: PortState,
    },
    /// Nothing to be addressed by.
    #[error("port {port} of {device} has {}; does its network interface have an address?", wanted(*index))]
    NoGid {
        /// The device.
        device: String,
        /// The port.
        port: u8,
        /// The index asked for, if any.
        index: Option<u8>,
    },
}

fn wanted(index: Option<u8>) -> String {
    index.map_or_else(|| "no GID".into(), |index| format!("no valid GID at index {index}"))
}

/// A port that can carry a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalPort {
    pub(super) number: u8,
    pub(super) gid: GidEntry,
    /// The largest path MTU that the network below carries now.
    pub(super) mtu: Mtu,
    pub(super) attributes: PortAttributes,
}

impl LocalPort {
    /// Looks at port `number`; without `gid_index` the preferred GID is taken.
    pub(super) fn find(context: &Arc<Context>, number: u8, gid_index: Option<u8>) -> Result<Self, PortError> {
        let attributes = context.port(number)?;
        let device = || context.name().to_owned();
        if attributes.state != PortState::Active {
            return Err(PortError::Down { device: device(), port: number, state: attributes.state });
        }
        let gids = context.gids(number)?;
        let gid = match gid_index {
            Some(index) => gids.iter().find(|entry| entry.index == index),
            None => GidEntry::preferred(&gids),
        };
        let gid =
            *gid.ok_or_else(|| PortError::NoGid { device: device(), port: number, index: gid_index })?;
        let mtu = attributes.active_mtu.unwrap_or(Mtu::Bytes256);
        Ok(Self { number, gid, mtu, attributes })
    }

    /// The address of a queue pair on this port.
    pub(super) fn address(&self, qp: &PreparedQueuePair) -> QpAddress {
        qp.address(self.gid.gid, self.attributes.lid)
    }

    /// A path from this port.
    pub(super) fn path(&self, mtu: Mtu, reads_started: u8, reads_answered: u8) -> Path {
        let global = self.attributes.link_layer != LinkLayer::InfiniBand || self.attributes.grh_required;
        Path { mtu, gid: self.gid, global, reads_started, reads_answered }
    }
}
