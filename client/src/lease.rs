//! The right to a mapping, and its end.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use peermem_proto::{
    ByteLen, DmaAddr, Generation, Initiator, LeaseId,
    call::{Delegate, DelegateReply, Renew, RenewReply, Unmap},
};

use crate::{
    connection::{CallFailed, Client, Connection, Fall, Granted, Kept, Request, Standing},
    mapping::{Mapping, MappingError},
};

/// A lease of device memory. Dropping it gives it back, waiting for the daemon's answer no longer than the connection's
/// time-out; [`Lease::unmap`] does the same and tells what came of it. If the daemon is away at that moment, a dropped lease
/// isn't resumed, and ends with the daemon's grace period.
///
/// Giving a lease back ends the *right* to the memory. Where the revocation class is
/// [`Advisory`](peermem_proto::Revocation::Advisory), mappings and memory regions made from it keep working until
/// they are dropped, and the daemon can lend the memory to nobody else before that: drop them first.
///
/// That also means that such a lease can be revoked, or expire, only by its client's letting go. The client hears of it by
/// [`Client::watch`]: [`Event::LeaseRevoked`](peermem_proto::Event::LeaseRevoked) with this lease's number asks it to drop
/// the memory regions and mappings, and then the lease. Every call about the lease but its end is refused by then.
#[derive(Debug)]
pub struct Lease<C: Connection = Client> {
    id: LeaseId,
    generation: Generation,
    info: Mutex<Arc<peermem_proto::Lease>>,
    memory: OwnedFd,
    memory_offset: ByteLen,
    device: Option<OwnedFd>,
    mapping: Mutex<Option<Arc<Mapping>>>,
    connection: C,
    kept: Arc<Kept>,
    given_back: bool,
}

impl<C: Connection> Lease<C> {
    pub(crate) fn new(granted: Granted, connection: C) -> Self {
        let Granted { lease, memory, offset, device, kept } = granted;
        Self {
            id: lease.id,
            generation: lease.generation,
            info: Mutex::new(Arc::new(lease)),
            memory,
            memory_offset: offset,
            device,
            mapping: Mutex::new(None),
            connection,
            kept: Arc::new(kept),
            given_back: false,
        }
    }

    /// What was granted: region, extent, method, route, revocation class, time. As the daemon told it when it was granted or
    /// last renewed.
    pub fn info(&self) -> Arc<peermem_proto::Lease> {
        Arc::clone(&self.info.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the daemon is known to have the lease no longer, or no longer for this client: it came back after a restart
    /// without it, or has answered so. Every further call fails with [`CallFailed::HoldingLost`], and nothing is said when
    /// the lease is dropped. What was mapped or registered of it isn't this process's to use any more.
    pub fn is_lost(&self) -> bool {
        self.kept.is_lost()
    }

    /// Whether this process has been told that the daemon wants the memory back, or has the lease no longer. It is told by
    /// the daemon's answers, by a restart, and of revocations by [`Client::watch`] alone, as its events are taken. Nothing
    /// can be registered of such a lease, and a [`MrCache`](crate::MrCache) has let go of what was.
    pub fn is_revoked(&self) -> bool {
        !self.standing().is_good()
    }

    pub(crate) fn standing(&self) -> &Arc<Standing> {
        self.kept.standing()
    }

    /// Number and generation, which never change.
    pub(crate) fn identity(&self) -> (LeaseId, Generation) {
        (self.id, self.generation)
    }

    /// The descriptor: a dma-buf for [`Method::Dmabuf`](peermem_proto::Method::Dmabuf), else something to mmap.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// Where the leased memory starts inside [`Lease::memory`], in bytes.
    pub fn memory_offset(&self) -> ByteLen {
        self.memory_offset
    }

    /// What an initiator that the daemon owns must emit to reach the leased memory's first byte, and only that initiator. `None`
    /// for all others: those get their addresses from their drivers, when the memory is registered.
    pub fn address_for(&self, initiator: &Initiator) -> Option<DmaAddr> {
        let info = self.info();
        let mut addresses = info.paths.iter().filter_map(|path| path.dma.as_ref());
        addresses.find(|address| address.initiator == *initiator).cloned()
    }

    /// The device of an initiator that the daemon owns, where [`Map::driving`](peermem_proto::call::Map::driving) asked for it: a
    /// descriptor of vfio-pci's, with the initiator's BARs and configuration space. It outlives the lease; what it reaches by
    /// DMA doesn't.
    pub fn device(&self) -> Option<BorrowedFd<'_>> {
        self.device.as_ref().map(AsFd::as_fd)
    }

    /// The memory in this process's address space. Every call gives the same mapping, which lives until the lease and
    /// the last copy of the `Arc` are gone.
    ///
    /// It is made once because a second mmap of `p2pmem/allocate` isn't the same memory again: each one takes fresh
    /// pages out of the pool (`p2pmem_alloc_mmap` in drivers/pci/p2pdma.c). It blocks for up to 2 s where that pool seems
    /// empty: the daemon may be taking back what others had.
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn mapping(&self) -> Result<Arc<Mapping>, MappingError> {
        let mut made = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapping) = made.as_ref() {
            return Ok(Arc::clone(mapping));
        }
        let info = self.info();
        let mapping = Arc::new(Mapping::new(self.memory(), self.memory_offset, info.length, info.method)?);
        *made = Some(Arc::clone(&mapping));
        Ok(mapping)
    }

    /// What is left to say. Cached memory regions and the mapping go first: the daemon can use the memory again only
    /// after them.
    fn end(&mut self) -> Unmap {
        self.standing().fall(Fall::GivenBack);
        self.mapping.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        Unmap { lease: self.id }
    }

    fn renewed(&self, reply: RenewReply) {
        *self.info.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(reply.lease);
    }
}

impl Lease {
    /// Asks for `secs` more seconds from now on, or for as long as the policy allows.
    ///
    /// # Errors
    /// [`CallFailed`]: the policy grants no such time, or the lease has been revoked or is lost.
    pub fn renew(&self, secs: Option<u64>) -> Result<(), CallFailed> {
        let call = Renew { lease: self.id, lease_secs: secs };
        self.connection.request(&Request::new(&call).about(&self.kept)).map(|reply| self.renewed(reply))
    }

    /// Makes a token by which another process takes the lease over, with [`Client::claim`]; until then it stays here. The
    /// token before it, if any, is good no longer.
    ///
    /// Drop mappings and memory regions before the token is used. Where the method is
    /// [`OnDemand`](peermem_proto::Method::OnDemand), the claimant gets other bytes of the pool than were mapped here, and
    /// none before these are back.
    ///
    /// # Errors
    /// [`CallFailed`]: the policy doesn't allow it, or the lease has been revoked or is lost.
    pub fn delegate(&self) -> Result<DelegateReply, CallFailed> {
        let call = Delegate { lease: self.id, memory_fd: 0 };
        self.connection.request(&Request::new(&call).sending(self.memory()).about(&self.kept))
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`CallFailed`]: the lease had ended already, or ends with the lost connection. If the daemon is restarted during
    /// this call, it may be the call itself that ended it.
    pub fn unmap(mut self) -> Result<(), CallFailed> {
        let call = self.end();
        self.given_back = true;
        self.connection.request(&Request::new(&call).about(&self.kept)).map(drop)
    }
}

#[cfg(feature = "async")]
impl Lease<crate::aio::Client> {
    /// Asks for `secs` more seconds from now on, or for as long as the policy allows.
    ///
    /// # Errors
    /// [`CallFailed`]: the policy grants no such time, or the lease has been revoked or is lost.
    pub async fn renew(&self, secs: Option<u64>) -> Result<(), CallFailed> {
        let call = Renew { lease: self.id, lease_secs: secs };
        self.connection.request(&Request::new(&call).about(&self.kept)).await.map(|reply| self.renewed(reply))
    }

    /// Makes a token by which another process takes the lease over: see the blocking [`Lease::delegate`].
    ///
    /// # Errors
    /// [`CallFailed`]: the policy doesn't allow it, or the lease has been revoked or is lost.
    pub async fn delegate(&self) -> Result<DelegateReply, CallFailed> {
        let call = Delegate { lease: self.id, memory_fd: 0 };
        self.connection.request(&Request::new(&call).sending(self.memory()).about(&self.kept)).await
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`CallFailed`], as the blocking [`Lease::unmap`].
    pub async fn unmap(mut self) -> Result<(), CallFailed> {
        let call = self.end();
        let done = self.connection.request(&Request::new(&call).about(&self.kept)).await.map(drop);
        // Not before: where this is cancelled while it waits for its turn, dropping the lease says it.
        self.given_back = true;
        done
    }
}

impl<C: Connection> Drop for Lease<C> {
    fn drop(&mut self) {
        if !self.given_back {
            let call = self.end();
            self.connection.call_unheard(call, Arc::clone(&self.kept));
        }
    }
}
