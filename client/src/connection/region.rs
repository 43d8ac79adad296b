//! Device memory of this process, offered to others.

use std::os::fd::{BorrowedFd, OwnedFd};

use peermem_proto::{
    PciAddress, Region, RegionName, Sharing,
    call::{Call, Register, Unregister},
};

use super::{CallFailed, Client, Connection};

/// A dma-buf that is registered as a region. Dropping it takes the region back, and every lease in it ends; so does
/// the end of the connection.
#[derive(Debug)]
pub struct RegisteredRegion<C: Connection = Client> {
    region: Region,
    /// Absent once the region is taken back.
    connection: Option<C>,
}

impl<C: Connection> RegisteredRegion<C> {
    pub(super) fn new(region: Region, connection: C) -> Self {
        Self { region, connection: Some(connection) }
    }

    /// The region as the daemon lists it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// What is left to say, and to whom.
    fn end(&mut self) -> Option<(C, Unregister)> {
        let connection = self.connection.take()?;
        Some((connection, Unregister { region: self.region.name.clone() }))
    }
}

impl RegisteredRegion {
    /// Takes the region back.
    ///
    /// # Errors
    /// [`CallFailed`]: the connection is lost, and the region with it.
    pub fn unregister(mut self) -> Result<(), CallFailed> {
        self.end().map_or(Ok(()), |(client, call)| client.call(&call).map(|_| ()))
    }
}

#[cfg(feature = "async")]
impl RegisteredRegion<super::aio::Client> {
    /// Takes the region back.
    ///
    /// # Errors
    /// [`CallFailed`]: the connection is lost, and the region with it.
    pub async fn unregister(mut self) -> Result<(), CallFailed> {
        match self.end() {
            Some((client, call)) => client.call(&call).await.map(|_| ()),
            None => Ok(()),
        }
    }
}

/// The call that registers `dmabuf`, and the descriptor that goes along.
pub(super) fn registration(
    name: RegionName,
    device: PciAddress,
    dmabuf: BorrowedFd<'_>,
    sharing: Sharing,
) -> Result<(Register, Vec<OwnedFd>), CallFailed> {
    let fd = dmabuf
        .try_clone_to_owned()
        .map_err(|source| CallFailed::Unsendable { method: Register::METHOD, source })?;
    Ok((Register { name, device, dmabuf_fd: 0, sharing }, vec![fd]))
}

impl<C: Connection> Drop for RegisteredRegion<C> {
    fn drop(&mut self) {
        if let Some((connection, call)) = self.end() {
            connection.call_unheard(call);
        }
    }
}
