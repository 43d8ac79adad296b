//! The right to a mapping, and its end.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use peermem_proto::{
    ByteLen,
    call::{MapReply, Unmap},
};

use crate::{
    connection::{CallFailed, Client, Connection, Trouble},
    mapping::{Mapping, MappingError},
};

/// A lease of device memory. Dropping it gives it back, waiting for the daemon's answer no longer than the connection's
/// time-out; [`Lease::unmap`] does the same and tells what came of it.
///
/// Giving a lease back ends the *right* to the memory. Where the revocation class is
/// [`Advisory`](peermem_proto::Revocation::Advisory), mappings and memory regions made from it keep working until
/// they are dropped, and the daemon can lend the memory to nobody else before that: drop them first.
#[derive(Debug)]
pub struct Lease<C: Connection = Client> {
    info: peermem_proto::Lease,
    memory: OwnedFd,
    memory_offset: ByteLen,
    mapping: Mutex<Option<Arc<Mapping>>>,
    /// Absent once the lease is given back.
    connection: Option<C>,
}

impl<C: Connection> Lease<C> {
    /// The lease out of a reply and its one descriptor.
    pub(crate) fn granted(reply: MapReply, fds: Vec<OwnedFd>, connection: C) -> Result<Self, Trouble> {
        let got = fds.len();
        let index = usize::try_from(reply.memory_fd).unwrap_or(usize::MAX);
        let memory = fds.into_iter().nth(index).ok_or(Trouble::DescriptorIndex { index, got })?;
        Ok(Self {
            info: reply.lease,
            memory,
            memory_offset: reply.memory_offset,
            mapping: Mutex::new(None),
            connection: Some(connection),
        })
    }

    /// What was granted: region, extent, method, route, revocation class.
    pub fn info(&self) -> &peermem_proto::Lease {
        &self.info
    }

    /// The descriptor: a dma-buf for [`Method::Dmabuf`](peermem_proto::Method::Dmabuf), else something to mmap.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// Where the leased memory starts inside [`Lease::memory`], in bytes.
    pub fn memory_offset(&self) -> ByteLen {
        self.memory_offset
    }

    /// The memory in this process's address space. Every call gives the same mapping, which lives until the lease and
    /// the last copy of the `Arc` are gone.
    ///
    /// It is made once because a second mmap of `p2pmem/allocate` isn't the same memory again: each one takes fresh
    /// pages out of the pool (`p2pmem_alloc_mmap` in drivers/pci/p2pdma.c).
    ///
    /// # Errors
    /// [`MappingError`].
    pub fn mapping(&self) -> Result<Arc<Mapping>, MappingError> {
        let mut made = self.mapping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mapping) = made.as_ref() {
            return Ok(Arc::clone(mapping));
        }
        let mapping =
            Arc::new(Mapping::new(self.memory(), self.memory_offset, self.info.length, self.info.method)?);
        *made = Some(Arc::clone(&mapping));
        Ok(mapping)
    }

    /// What is left to say, and to whom. The mapping goes first: the daemon can use the memory again only after it.
    fn end(&mut self) -> Option<(C, Unmap)> {
        let connection = self.connection.take()?;
        self.mapping.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        Some((connection, Unmap { lease: self.info.id }))
    }
}

impl Lease {
    /// Gives the lease back.
    ///
    /// # Errors
    /// [`CallFailed`]: the lease had ended already, or ends with the lost connection.
    pub fn unmap(mut self) -> Result<(), CallFailed> {
        self.end().map_or(Ok(()), |(client, call)| client.call(&call).map(|_| ()))
    }
}

#[cfg(feature = "async")]
impl Lease<crate::aio::Client> {
    /// Gives the lease back.
    ///
    /// # Errors
    /// [`CallFailed`]: the lease had ended already, or ends with the lost connection.
    pub async fn unmap(mut self) -> Result<(), CallFailed> {
        match self.end() {
            Some((client, call)) => client.call(&call).await.map(|_| ()),
            None => Ok(()),
        }
    }
}

impl<C: Connection> Drop for Lease<C> {
    fn drop(&mut self) {
        if let Some((connection, call)) = self.end() {
            connection.call_unheard(call);
        }
    }
}
