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

/// A work request that isn't posted yet.
#[derive(Debug, Clone)]
pub enum Work {
    /// An RDMA write of `local` to `remote`.
    Write {
        /// What is read here.
        local: MrSlice,
        /// Where it goes.
        remote: RemoteTarget,
    },
    /// An RDMA write that consumes one of the peer's receives and hands it `immediate`.
    WriteImmediate {
        /// What is read here.
        local: MrSlice,
        /// Where it goes.
        remote: RemoteTarget,
        /// What the peer's completion says.
        immediate: u32,
    },
    /// An RDMA read of `remote` into `local`.
    Read {
        /// What is written here.
        local: MrSlice,
        /// Where it comes from.
        remote: RemoteTarget,
    },
    /// A send to one of the peer's receives.
    Send {
        /// What is read here.
        local: MrSlice,
    },
    /// The same, with `immediate` for the peer.
    SendImmediate {
        /// What is read here.
        local: MrSlice,
        /// What the peer's completion says.
        immediate: u32,
    },
}

impl Work {
    /// This process's side.
    pub fn local(&self) -> &MrSlice {
        let (Self::Write { local, .. }
        | Self::WriteImmediate { local, .. }
        | Self::Read { local, .. }
        | Self::Send { local }
        | Self::SendImmediate { local, .. }) = self;
        local
    }

    /// The request, around the one element that it has.
    fn to_abi(&self, number: u64, element: &mut sys::ibv_sge) -> sys::ibv_send_wr {
        let (opcode, remote, immediate) = match *self {
            Self::Write { remote, .. } => (sys::IBV_WR_RDMA_WRITE, Some(remote), 0),
            Self::WriteImmediate { remote, immediate, .. } => {
                (sys::IBV_WR_RDMA_WRITE_WITH_IMM, Some(remote), immediate)
            }
            Self::Read { remote, .. } => (sys::IBV_WR_RDMA_READ, Some(remote), 0),
            Self::Send { .. } => (sys::IBV_WR_SEND, None, 0),
            Self::SendImmediate { immediate, .. } => (sys::IBV_WR_SEND_WITH_IMM, None, immediate),
        };
        let mut request = sys::ibv_send_wr {
            wr_id: number,
            sg_list: &raw mut *element,
            // To some devices an element of length 0 is one of 2 GiB.
            num_sge: c_int::from(!self.local().is_empty()),
            opcode,
            imm_data: immediate.to_be(),
            ..sys::ibv_send_wr::zeroed()
        };
        if let Some(RemoteTarget { address, rkey }) = remote {
            request.wr.rdma = sys::ibv_send_wr_rdma { remote_addr: address, rkey: rkey.get() };
        }
        request
    }
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
    /// Starts one request. Allocates nothing.
    ///
    /// # Errors
    ///
    /// [`PostError`]. What happens later, the completion says.
    pub fn post(&self, id: WorkId, work: Work) -> Result<(), PostError> {
        self.start::<1>(id, &[work])
    }

    /// Starts all of `batch`, in order, by a doorbell for every 32. There is one completion for them all: the last one's, or
    /// the first failure. Their regions stay registered until it was polled; after a failure until the queue pair is gone,
    /// since the device may still be busy with the others. An empty batch starts nothing and has no completion. Allocates
    /// nothing while all are of one region.
    ///
    /// # Errors
    ///
    /// [`PostError`]. When the device refuses one in the middle, those before it have been started and nothing will tell of
    /// their end: drop the queue pair.
    pub fn post_batch(&self, id: WorkId, batch: &[Work]) -> Result<(), PostError> {
        /// More would save little, and take more of the stack: 5 KiB.
        const DOORBELL: usize = 32;
        // One by itself is one whose latency counts: it isn't to wait for a stack of 5 KiB to be cleared.
        if batch.len() == 1 { self.start::<1>(id, batch) } else { self.start::<DOORBELL>(id, batch) }
    }

    /// By a doorbell for every `N`, whose lists lie on the stack.
    fn start<const N: usize>(&self, id: WorkId, batch: &[Work]) -> Result<(), PostError> {
        let Some(last) = batch.len().checked_sub(1) else { return Ok(()) };
        // All are looked at before the first is started; those of one doorbell are in any case.
        if batch.len() > N {
            batch.iter().try_for_each(|work| self.element(work).map(drop))?;
        }
        let mut number = None;
        for (at, works) in (0..).step_by(N).zip(batch.chunks(N)) {
            let mut elements = [const { sys::ibv_sge::zeroed() }; N];
            let mut requests = [const { sys::ibv_send_wr::zeroed() }; N];
            for (work, element) in works.iter().zip(&mut elements) {
                *element = self.element(work)?;
            }
            let number = *number.get_or_insert_with(|| {
                self.core.cq.note(id, self.core.qpn, batch.iter().map(|work| work.local().region()))
            });
            for ((work, element), request) in works.iter().zip(&mut elements).zip(&mut requests) {
                *request = work.to_abi(number, element);
            }
            let requests = &mut requests[..works.len()];
            if let Some(request) = requests.get_mut(last - at) {
                request.send_flags = sys::IBV_SEND_SIGNALED;
            }
            let first = link(requests);
            let mut bad = ptr::null_mut();
            // SAFETY:
            // * the queue pair is live, and the list ends: each request points to the next of the same array, the last to null;
            // * requests and elements outlive the call, which copies them;
            // * every region stays registered until the completion was polled, or the queue pair is gone.
            let status = unsafe { inline::ibv_post_send(self.core.handle.as_ptr(), first, &raw mut bad) };
            if at == 0 && (bad.is_null() || ptr::eq(bad, first)) {
                self.posted(number, status)?;
            } else {
                check(status).map_err(PostError::Refused)?;
            }
        }
        Ok(())
    }

    /// Offers `local` for what the peer sends.
    ///
    /// # Errors
    ///
    /// [`PostError`].
    pub fn post_receive(&self, id: WorkId, local: &MrSlice) -> Result<(), PostError> {
        let mut sge = self.part(local, true)?;
        let number = self.core.cq.note(id, self.core.qpn, [local.region()]);
        let num_sge = c_int::from(!local.is_empty());
        let mut request =
            sys::ibv_recv_wr { wr_id: number, next: ptr::null_mut(), sg_list: &raw mut sge, num_sge };
        let mut bad = ptr::null_mut();
        // SAFETY: a list of one request, whose memory stays registered until its completion was polled.
        let status =
            unsafe { inline::ibv_post_recv(self.core.handle.as_ptr(), &raw mut request, &raw mut bad) };
        self.posted(number, status)
    }

    /// The one scatter/gather element that a request here has.
    fn element(&self, work: &Work) -> Result<sys::ibv_sge, PostError> {
        self.part(work.local(), matches!(work, Work::Read { .. }))
    }

    fn part(&self, local: &MrSlice, written: bool) -> Result<sys::ibv_sge, PostError> {
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

/// Makes a list of them, which begins at the result.
fn link(requests: &mut [sys::ibv_send_wr]) -> *mut sys::ibv_send_wr {
    let end = ptr::null_mut();
    requests.iter_mut().rev().fold(end, |next, request| {
        request.next = next;
        &raw mut *request
    })
}
