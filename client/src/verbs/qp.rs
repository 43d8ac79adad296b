//! Reliable-connected queue pairs.
//!
//! ```text
//! RESET -> INIT  PreparedQueuePair::new    has a number and an address, carries nothing
//!       -> RTR -> RTS  connect             QueuePair: carries work requests
//!       -> ERR   an error, or flush        every outstanding request is completed as flushed
//! ```

use std::sync::Arc;

use peermem_verbs_sys as sys;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    CompletionQueue, Gid, GidEntry, ProtectionDomain,
    handle::{CloseError, Handle, check},
    number::{Mtu, Psn, Qpn},
};
use crate::errno::Errno;

/// Why a queue pair can't be made or connected.
#[derive(Debug, Clone, Error)]
pub enum QpError {
    /// Its completions would not fit.
    #[error("the completion queue has {free} entries free, the queue pair needs {needed}")]
    CompletionQueueFull {
        /// Entries not promised to other queue pairs.
        free: u32,
        /// Send and receive depth together.
        needed: u32,
    },
    /// The device refused; `EINVAL` and `ENOMEM` mean that the depth exceeds what it has.
    #[error("a queue pair for {} sends and {} receives can't be created", depth.send, depth.receive)]
    Create {
        /// What was asked for.
        depth: QpDepth,
        /// What `ibv_create_qp` said.
        source: Errno,
    },
    /// A state change failed.
    #[error("the queue pair can't go to state {to}")]
    Transition {
        /// `INIT`, `RTR`, `RTS` or `ERR`.
        to: &'static str,
        /// What `ibv_modify_qp` said.
        source: Errno,
    },
    /// The state can't be read.
    #[error("the queue pair can't be queried")]
    Query(#[source] Errno),
}

/// How many work requests may be outstanding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QpDepth {
    /// Sends, RDMA reads and writes.
    pub send: u32,
    /// Receives.
    pub receive: u32,
}

/// What a peer needs to know to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QpAddress {
    /// The queue pair's number.
    pub qpn: Qpn,
    /// Where its packets start counting.
    pub psn: Psn,
    /// The port's global identifier.
    pub gid: Gid,
    /// The port's local identifier; 0 on Ethernet.
    pub lid: u16,
}

/// How packets get to the peer, as both sides agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The path MTU: the smaller one of both ports' active MTUs.
    pub mtu: Mtu,
    /// The local GID, as its index.
    pub gid: GidEntry,
    /// Packets carry a global route header: always on Ethernet.
    pub global: bool,
    /// RDMA reads that this side has outstanding at a time; at most what the peer answers at a time.
    pub reads_started: u8,
    /// RDMA reads that this side answers at a time.
    pub reads_answered: u8,
}

/// State, capacity and identity, shared by both states of the type.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) handle: Handle<sys::ibv_qp>,
    pub(super) cq: Arc<CompletionQueue>,
    pub(super) pd: Arc<ProtectionDomain>,
    pub(super) qpn: Qpn,
    depth: QpDepth,
}

impl Core {
    fn modify(&self, to: &'static str, attributes: &mut sys::ibv_qp_attr, mask: i32) -> Result<(), QpError> {
        let modify = self.pd.context.verbs.ibv_modify_qp;
        // SAFETY: the queue pair is live; attributes that the mask doesn't name aren't read.
        check(unsafe { modify(self.handle.as_ptr(), attributes, mask | sys::IBV_QP_STATE) })
            .map_err(|source| QpError::Transition { to, source })
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // Regions in use go only when the device is done with them. A failure is reported by `close`, or logged.
        if self.handle.close().is_ok() {
            self.cq.forget(self.qpn);
            self.cq.release(self.depth.send + self.depth.receive);
        }
    }
}

/// A queue pair in state INIT.
#[derive(Debug)]
pub struct PreparedQueuePair {
    core: Core,
    psn: Psn,
    port: u8,
}

impl PreparedQueuePair {
    /// Creates one on `port` that peers may read and write through.
    ///
    /// # Errors
    ///
    /// [`QpError`].
    pub fn new(
        pd: &Arc<ProtectionDomain>,
        cq: &Arc<CompletionQueue>,
        port: u8,
        depth: QpDepth,
    ) -> Result<Self, QpError> {
        let needed = depth.send.saturating_add(depth.receive);
        cq.reserve(needed).map_err(|free| QpError::CompletionQueueFull { free, needed })?;
        let mut wanted = sys::ibv_qp_init_attr {
            send_cq: cq.handle.as_ptr(),
            recv_cq: cq.handle.as_ptr(),
            cap: sys::ibv_qp_cap {
                max_send_wr: depth.send,
                max_recv_wr: depth.receive,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            qp_type: sys::IBV_QPT_RC,
            ..sys::ibv_qp_init_attr::zeroed()
        };
        let verbs = pd.context.verbs;
        // SAFETY: domain and queue are live, and outlive the queue pair by their Arcs.
        let raw = unsafe { (verbs.ibv_create_qp)(pd.handle.as_ptr(), &raw mut wanted) };
        // SAFETY: the queue pair was just made and nobody else has it.
        let handle = unsafe { Handle::new("queue pair", raw, verbs.ibv_destroy_qp) }.map_err(|source| {
            cq.release(needed);
            QpError::Create { depth, source }
        })?;
        // SAFETY: the queue pair is live.
        let number = unsafe { (*handle.as_ptr()).qp_num };
        let qpn = Qpn::truncated(number);
        let core = Core { handle, cq: cq.clone(), pd: pd.clone(), qpn, depth };
        let mut attributes = sys::ibv_qp_attr {
            qp_state: sys::IBV_QPS_INIT,
            port_num: port,
            qp_access_flags: sys::IBV_ACCESS_REMOTE_READ | sys::IBV_ACCESS_REMOTE_WRITE,
            ..sys::ibv_qp_attr::zeroed()
        };
        core.modify(
            "INIT",
            &mut attributes,
            sys::IBV_QP_PKEY_INDEX | sys::IBV_QP_PORT | sys::IBV_QP_ACCESS_FLAGS,
        )?;
        Ok(Self { core, psn: Psn::random(), port })
    }

    /// What the peer needs to know, given the port's GID and LID.
    pub fn address(&self, gid: Gid, lid: u16) -> QpAddress {
        QpAddress { qpn: self.core.qpn, psn: self.psn, gid, lid }
    }

    /// Connects to the queue pair at `peer`, which has to connect to this one.
    ///
    /// # Errors
    ///
    /// [`QpError::Transition`]; `EINVAL` often means that the MTU or GID doesn't suit the port.
    pub fn connect(self, path: &Path, peer: &QpAddress) -> Result<QueuePair, QpError> {
        let Self { core, psn, port } = self;
        core.modify(
            "RTR",
            &mut ready_to_receive(path, peer, port),
            sys::IBV_QP_AV
                | sys::IBV_QP_PATH_MTU
                | sys::IBV_QP_DEST_QPN
                | sys::IBV_QP_RQ_PSN
                | sys::IBV_QP_MAX_DEST_RD_ATOMIC
                | sys::IBV_QP_MIN_RNR_TIMER,
        )?;
        core.modify(
            "RTS",
            &mut ready_to_send(path, psn),
            sys::IBV_QP_TIMEOUT
                | sys::IBV_QP_RETRY_CNT
                | sys::IBV_QP_RNR_RETRY
                | sys::IBV_QP_SQ_PSN
                | sys::IBV_QP_MAX_QP_RD_ATOMIC,
        )?;
        Ok(QueuePair { core })
    }
}

fn ready_to_receive(path: &Path, peer: &QpAddress, port: u8) -> sys::ibv_qp_attr {
    /// Routers that a packet may pass.
    const HOP_LIMIT: u8 = 64;
    /// What the receiver asks senders to wait when it has no receive posted: code 12 is 0.64 ms.
    const RNR_TIMER: u8 = 12;
    sys::ibv_qp_attr {
        qp_state: sys::IBV_QPS_RTR,
        path_mtu: path.mtu.to_abi(),
        dest_qp_num: peer.qpn.get(),
        rq_psn: peer.psn.get(),
        max_dest_rd_atomic: path.reads_answered,
        min_rnr_timer: RNR_TIMER,
        ah_attr: sys::ibv_ah_attr {
            grh: sys::ibv_global_route {
                dgid: sys::ibv_gid { raw: peer.gid.bytes() },
                sgid_index: path.gid.index,
                hop_limit: HOP_LIMIT,
                ..sys::ibv_global_route::zeroed()
            },
            dlid: peer.lid,
            is_global: u8::from(path.global),
            port_num: port,
            ..sys::ibv_ah_attr::zeroed()
        },
        ..sys::ibv_qp_attr::zeroed()
    }
}

fn ready_to_send(path: &Path, psn: Psn) -> sys::ibv_qp_attr {
    /// How long to wait for an acknowledgement: 4.096 us * 2^18 = 1.07 s. Where a CPU answers, as with soft-RoCE, it may have been kept
    /// from it for seconds.
    const ACK_TIMEOUT: u8 = 18;
    /// Repetitions without an answer: with the timeout above, a dead peer is noticed after about 8 s. The most that the
    /// architecture has is 7, which `rdma_rxe` takes for "for ever" (drivers/infiniband/sw/rxe/rxe_comp.c).
    const RETRIES: u8 = 6;
    /// Repetitions while the receiver has no receive posted; 7 would mean for ever.
    const RNR_RETRIES: u8 = 6;
    sys::ibv_qp_attr {
        qp_state: sys::IBV_QPS_RTS,
        sq_psn: psn.get(),
        timeout: ACK_TIMEOUT,
        retry_cnt: RETRIES,
        rnr_retry: RNR_RETRIES,
        max_rd_atomic: path.reads_started,
        ..sys::ibv_qp_attr::zeroed()
    }
}

/// A connected queue pair. Dropping it ends all outstanding work; only then are the regions in use let go.
#[derive(Debug)]
pub struct QueuePair {
    pub(super) core: Core,
}

impl QueuePair {
    /// Its number.
    pub fn qpn(&self) -> Qpn {
        self.core.qpn
    }

    /// The queue that its completions go to.
    pub fn completion_queue(&self) -> &Arc<CompletionQueue> {
        &self.core.cq
    }

    /// How many work requests may be outstanding.
    pub fn depth(&self) -> QpDepth {
        self.core.depth
    }

    /// Puts it into the error state: outstanding requests complete as flushed, and no byte moves any more.
    ///
    /// # Errors
    ///
    /// [`QpError::Transition`].
    pub fn flush(&self) -> Result<(), QpError> {
        let mut attributes = sys::ibv_qp_attr { qp_state: sys::IBV_QPS_ERR, ..sys::ibv_qp_attr::zeroed() };
        self.core.modify("ERR", &mut attributes, 0)
    }

    /// Whether the device still has it ready to send, which errors end.
    ///
    /// # Errors
    ///
    /// [`QpError::Query`].
    pub fn is_ready(&self) -> Result<bool, QpError> {
        let (mut attributes, mut init) = (sys::ibv_qp_attr::zeroed(), sys::ibv_qp_init_attr::zeroed());
        let query = self.core.pd.context.verbs.ibv_query_qp;
        // SAFETY: the queue pair is live; both results may be written.
        check(unsafe {
            query(self.core.handle.as_ptr(), &raw mut attributes, sys::IBV_QP_STATE, &raw mut init)
        })
        .map_err(QpError::Query)?;
        Ok(attributes.qp_state == sys::IBV_QPS_RTS)
    }

    /// Destroys it.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the kernel refuses.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.core.handle.close()
    }
}
