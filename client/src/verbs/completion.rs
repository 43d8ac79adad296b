//! What became of a work request.

use std::{error, fmt};

use peermem_verbs_sys as sys;

use super::number::{Qpn, WorkId};

/// A finished work request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// As posted.
    pub id: WorkId,
    /// The queue pair it was posted to.
    pub qpn: Qpn,
    /// What became of it.
    pub result: Result<Done, WorkError>,
}

/// A work request that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Done {
    /// What it was.
    pub kind: WorkKind,
    /// Bytes received or read. For sends and writes devices leave it undefined.
    pub byte_len: u32,
    /// What the peer sent along, in host byte order.
    pub immediate: Option<u32>,
}

/// The kind of a successful work request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// A send left.
    Send,
    /// An RDMA write arrived.
    Write,
    /// An RDMA read came back.
    Read,
    /// A send arrived here.
    Receive,
    /// An RDMA write with immediate data arrived here.
    ReceiveWriteImmediate,
    /// A kind that this crate doesn't post.
    Other(u32),
}

/// A work request that failed. The queue pair is in its error state then, and all later requests are flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkError {
    /// Why.
    pub status: WorkStatus,
    /// The vendor's own code, 0 for soft-RoCE.
    pub vendor_error: u32,
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.status.fmt(f)?;
        if self.vendor_error != 0 {
            write!(f, " (vendor error {:#x})", self.vendor_error)?;
        }
        Ok(())
    }
}

impl error::Error for WorkError {}

/// The status of a failed work request: `enum ibv_wc_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WorkStatus(sys::ibv_wc_status);

impl WorkStatus {
    /// The queue pair was already in its error state; the first error says why.
    pub const FLUSHED: Self = Self(sys::IBV_WC_WR_FLUSH_ERR);
    /// The peer refused key, range or permission.
    pub const REMOTE_ACCESS: Self = Self(sys::IBV_WC_REM_ACCESS_ERR);
    /// The peer's device failed while it served the request.
    pub const REMOTE_OPERATION: Self = Self(sys::IBV_WC_REM_OP_ERR);
    /// The peer doesn't answer.
    pub const RETRY_EXCEEDED: Self = Self(sys::IBV_WC_RETRY_EXC_ERR);
    /// The local key, range or permission is wrong.
    pub const LOCAL_PROTECTION: Self = Self(sys::IBV_WC_LOC_PROT_ERR);

    /// The number in `verbs.h`.
    pub const fn code(self) -> u32 {
        self.0
    }

    fn text(self) -> &'static str {
        match self.0 {
            sys::IBV_WC_SUCCESS => "success",
            sys::IBV_WC_LOC_LEN_ERR => {
                "local length error: the message doesn't fit the receive buffer or the port"
            }
            sys::IBV_WC_LOC_QP_OP_ERR => "local queue pair operation error",
            sys::IBV_WC_LOC_PROT_ERR => {
                "local protection error: the local memory region is gone, too short, or may not be accessed this way"
            }
            sys::IBV_WC_WR_FLUSH_ERR => "flushed: the queue pair was already in its error state",
            sys::IBV_WC_BAD_RESP_ERR => "bad response: the peer answered out of protocol",
            sys::IBV_WC_LOC_ACCESS_ERR => "local access error: a peer's write didn't match the local region",
            sys::IBV_WC_REM_INV_REQ_ERR => {
                "remote invalid request: the peer's queue pair doesn't take this operation or length"
            }
            sys::IBV_WC_REM_ACCESS_ERR => {
                "remote access error: the peer's key, range or permission doesn't allow it (was its region deregistered?)"
            }
            sys::IBV_WC_REM_OP_ERR => {
                "remote operation error: the peer's device could not reach its own memory (was it revoked or unplugged?)"
            }
            sys::IBV_WC_RETRY_EXC_ERR => {
                "retries exceeded: the peer doesn't answer (dead, disconnected, or the path drops packets of this MTU)"
            }
            sys::IBV_WC_RNR_RETRY_EXC_ERR => "receiver not ready: the peer posted no receive in time",
            sys::IBV_WC_REM_ABORT_ERR => "the peer aborted the operation",
            sys::IBV_WC_FATAL_ERR => "fatal error of the device",
            sys::IBV_WC_RESP_TIMEOUT_ERR => "the response timed out",
            sys::IBV_WC_GENERAL_ERR => "general error",
            _ => "error that only datagram, XRC or tag-matching queue pairs have",
        }
    }
}

impl fmt::Display for WorkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (status {})", self.text(), self.0)
    }
}

/// Translates a work completion. The id is the poster's, not the one that the device saw.
pub(super) fn from_abi(raw: &sys::ibv_wc, id: WorkId, qpn: Qpn) -> Completion {
    let result = if raw.status == sys::IBV_WC_SUCCESS {
        let with_immediate = raw.wc_flags & sys::IBV_WC_WITH_IMM != 0;
        Ok(Done {
            kind: match raw.opcode {
                sys::IBV_WC_SEND => WorkKind::Send,
                sys::IBV_WC_RDMA_WRITE => WorkKind::Write,
                sys::IBV_WC_RDMA_READ => WorkKind::Read,
                sys::IBV_WC_RECV => WorkKind::Receive,
                sys::IBV_WC_RECV_RDMA_WITH_IMM => WorkKind::ReceiveWriteImmediate,
                other => WorkKind::Other(other),
            },
            byte_len: raw.byte_len,
            immediate: with_immediate.then_some(u32::from_be(raw.imm_data)),
        })
    } else {
        Err(WorkError { status: WorkStatus(raw.status), vendor_error: raw.vendor_err })
    };
    Completion { id, qpn, result }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_words() {
        let raw =
            sys::ibv_wc { status: sys::IBV_WC_REM_ACCESS_ERR, vendor_err: 0x88, ..sys::ibv_wc::zeroed() };
        let completion = from_abi(&raw, WorkId(7), Qpn::new(17).unwrap());
        let error = completion.result.unwrap_err();
        assert_eq!(error.status, WorkStatus::REMOTE_ACCESS);
        let text = error.to_string();
        assert!(text.contains("remote access error") && text.contains("0x88"), "{text}");
    }

    #[test]
    fn immediate_data_is_read_in_network_order() {
        let raw = sys::ibv_wc {
            opcode: sys::IBV_WC_RECV_RDMA_WITH_IMM,
            wc_flags: sys::IBV_WC_WITH_IMM,
            imm_data: 0x0102_0304_u32.to_be(),
            ..sys::ibv_wc::zeroed()
        };
        let done = from_abi(&raw, WorkId(0), Qpn::new(1).unwrap()).result.unwrap();
        assert_eq!((done.kind, done.immediate), (WorkKind::ReceiveWriteImmediate, Some(0x0102_0304)));
    }
}
