//! What a device claims to do with on-demand paging (ODP).

use peermem_verbs_sys as sys;

/// A device's claims. Whether it keeps them is another matter: see [`rdma::probe`](crate::rdma::probe).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OdpCaps {
    /// On-demand registrations exist.
    pub supported: bool,
    /// One region may cover the whole address space.
    pub implicit: bool,
    /// On reliable connections.
    pub rc: OdpTransport,
    /// On unreliable connections.
    pub uc: OdpTransport,
    /// On unreliable datagrams.
    pub ud: OdpTransport,
}

/// Which operations may touch on-demand regions on one transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OdpTransport(u32);

impl OdpTransport {
    /// Sends from such a region.
    pub const fn send(self) -> bool {
        self.0 & sys::IBV_ODP_SUPPORT_SEND != 0
    }

    /// Receives into such a region.
    pub const fn receive(self) -> bool {
        self.0 & sys::IBV_ODP_SUPPORT_RECV != 0
    }

    /// RDMA writes.
    pub const fn write(self) -> bool {
        self.0 & sys::IBV_ODP_SUPPORT_WRITE != 0
    }

    /// RDMA reads.
    pub const fn read(self) -> bool {
        self.0 & sys::IBV_ODP_SUPPORT_READ != 0
    }

    /// Atomics.
    pub const fn atomic(self) -> bool {
        self.0 & sys::IBV_ODP_SUPPORT_ATOMIC != 0
    }
}

impl OdpCaps {
    pub(super) fn from_abi(raw: &sys::ibv_odp_caps) -> Self {
        let transports = &raw.per_transport_caps;
        Self {
            supported: raw.general_caps & sys::IBV_ODP_SUPPORT != 0,
            implicit: raw.general_caps & sys::IBV_ODP_SUPPORT_IMPLICIT != 0,
            rc: OdpTransport(transports.rc_odp_caps),
            uc: OdpTransport(transports.uc_odp_caps),
            ud: OdpTransport(transports.ud_odp_caps),
        }
    }

    /// Whether RDMA reads and writes over RC may use on-demand regions.
    pub const fn rc_read_write(&self) -> bool {
        self.supported && self.rc.read() && self.rc.write()
    }
}
