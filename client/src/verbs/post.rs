//! Posting work requests.

use std::{ffi::c_int, ptr};

use peermem_proto::ByteLen;
use peermem_verbs_sys::{self as sys, inline};
use thiserror::Error;

use super::{
    Access, MrSlice, QueuePair,
    handle::check,
    number::{Rkey, WorkId},
};
use crate::errno::Errno;

/// Why a work request wasn't posted.
#[derive(Debug, Clone, Error)]
pub enum PostError {
    /// More than one message can carry.
    #[error("{0} don't fit one message of at most 4 GiB - 1")]
    TooLong(ByteLen),
    /// The request writes to a region that was registered without local write access.
    #[error("the local memory region was registered without local write access")]
    NotWritable,
    /// Region and queue pair can't be used together.
    #[error("the local memory region belongs to another protection domain than the queue pair")]
    OtherProtectionDomain,
    /// The device refused it; `ENOMEM` means that as many requests as fit are outstanding.
    #[error("the work request was refused")]
    Refused(#[source] Errno),
}

/// Memory of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteTarget {
    /// Address in the peer's region.
    pub address: u64,
    /// The region's key.
    pub rkey: Rkey,
}

impl QueuePair {
    /// Starts an RDMA write of `local` to `remote`.
    ///
    /// # Errors
    ///
    /// [`PostError`]. What happens later, the completion says.
    pub fn post_write(&self, id: WorkId, local: &MrSlice, remote: RemoteTarget) -> Result<(), PostError> {
        self.post(id, local, sys::IBV_WR_RDMA_WRITE, Some(remote), 0)
    }

    /// Starts an RDMA write that consumes one of the peer's receives and hands it `immediate`.
    ///
    /// # Errors
    ///
    /// [`PostError`].
    pub fn post_write_immediate(
        &self,
        id: WorkId,
        local: &MrSlice,
        remote: RemoteTarget,
        immediate: u32,
    ) -> Result<(), PostError> {
        self.post(id, local, sys::IBV_WR_RDMA_WRITE_WITH_IMM, Some(remote), immediate)
    }

    /// Starts an RDMA read of `remote` into `local`.
    ///
    /// # Errors
    ///
    /// [`PostError`].
    pub fn post_read(&self, id: WorkId, local: &MrSlice, remote: RemoteTarget) -> Result<(), PostError> {
        self.post(id, local, sys::IBV_WR_RDMA_READ, Some(remote), 0)
    }

    /// Starts sending `local` to one of the peer's receives.
    ///
    /// # Errors
    ///
    /// [`PostError`].
    pub fn post_send(&self, id: WorkId, local: &MrSlice) -> Result<(), PostError> {
        self.post(id, local, sys::IBV_WR_SEND, None, 0)
    }

    /// Offers `local` for what the peer sends.
    ///
    /// # Errors
    ///
    /// [`PostError`].
    pub fn post_receive(&self, id: WorkId, local: &MrSlice) -> Result<(), PostError> {
        let mut sge = self.element(local, true)?;
        let number = self.core.cq.note(id, self.core.qpn, local.region());
        let mut request =
            sys::ibv_recv_wr { wr_id: number, next: ptr::null_mut(), sg_list: &raw mut sge, num_sge: 1 };
        let mut bad = ptr::null_mut();
        // SAFETY: a list of one request, whose memory stays registered until its completion was polled.
        let status =
            unsafe { inline::ibv_post_recv(self.core.handle.as_ptr(), &raw mut request, &raw mut bad) };
        self.posted(number, status)
    }

    fn post(
        &self,
        id: WorkId,
        local: &MrSlice,
        opcode: sys::ibv_wr_opcode,
        remote: Option<RemoteTarget>,
        immediate: u32,
    ) -> Result<(), PostError> {
        let mut sge = self.element(local, opcode == sys::IBV_WR_RDMA_READ)?;
        let number = self.core.cq.note(id, self.core.qpn, local.region());
        let mut request = sys::ibv_send_wr {
            wr_id: number,
            sg_list: &raw mut sge,
            num_sge: 1,
            opcode,
            send_flags: sys::IBV_SEND_SIGNALED,
            imm_data: immediate.to_be(),
            ..sys::ibv_send_wr::zeroed()
        };
        if let Some(RemoteTarget { address, rkey }) = remote {
            request.wr.rdma = sys::ibv_send_wr_rdma { remote_addr: address, rkey: rkey.get() };
        }
        let mut bad = ptr::null_mut();
        // SAFETY: a list of one request, whose memory stays registered until its completion was polled.
        let status =
            unsafe { inline::ibv_post_send(self.core.handle.as_ptr(), &raw mut request, &raw mut bad) };
        self.posted(number, status)
    }

    /// The one scatter/gather element that a request here has.
    fn element(&self, local: &MrSlice, written: bool) -> Result<sys::ibv_sge, PostError> {
        let region = local.region();
        if !std::ptr::eq(region.protection_domain().as_ref(), self.core.pd.as_ref()) {
            return Err(PostError::OtherProtectionDomain);
        }
        if written && !region.access().contains(Access::LOCAL_WRITE) {
            return Err(PostError::NotWritable);
        }
        let length = u32::try_from(local.len().get()).map_err(|_| PostError::TooLong(local.len()))?;
        Ok(sys::ibv_sge { addr: local.iova(), length, lkey: region.lkey().get() })
    }

    fn posted(&self, number: u64, status: c_int) -> Result<(), PostError> {
        check(status).map_err(|errno| {
            self.core.cq.retract(number);
            PostError::Refused(errno)
        })
    }
}
