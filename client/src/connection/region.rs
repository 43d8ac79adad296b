//! Device memory of this process, offered to others.

use std::sync::Arc;

use peermem_proto::{Region, call::Unregister};

use super::{CallFailed, Client, Connection, holdings::Kept, request::Request};

/// A dma-buf that is registered as a region. Dropping it takes the region back, and every lease in it ends; so does
/// the end of the connection. A restart of the daemon doesn't, where systemd keeps the daemon's descriptors meanwhile.
#[derive(Debug)]
pub struct RegisteredRegion<C: Connection = Client> {
    region: Region,
    connection: C,
    kept: Arc<Kept>,
    taken_back: bool,
}

impl<C: Connection> RegisteredRegion<C> {
    pub(super) fn new(region: Region, kept: Kept, connection: C) -> Self {
        Self { region, connection, kept: Arc::new(kept), taken_back: false }
    }

    /// The region as the daemon listed it when it was registered.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// Whether the daemon is known to have it no longer: it was restarted without a way to keep it.
    pub fn is_lost(&self) -> bool {
        self.kept.is_lost()
    }

    /// What is left to say.
    fn end(&self) -> Unregister {
        Unregister { region: self.region.name.clone() }
    }
}

impl RegisteredRegion {
    /// Takes the region back.
    ///
    /// # Errors
    /// [`CallFailed`]: the region had gone already, by this very call if the daemon died of something else meanwhile; or
    /// the connection is lost, and the region with it.
    pub fn unregister(mut self) -> Result<(), CallFailed> {
        let call = self.end();
        self.taken_back = true;
        self.connection.request(&Request::new(&call).about(&self.kept)).map(drop)
    }
}

#[cfg(feature = "async")]
impl RegisteredRegion<super::aio::Client> {
    /// Takes the region back.
    ///
    /// # Errors
    /// [`CallFailed`]: the region had gone already, by this very call if the daemon died of something else meanwhile; or
    /// the connection is lost, and the region with it.
    pub async fn unregister(mut self) -> Result<(), CallFailed> {
        let call = self.end();
        let done = self.connection.request(&Request::new(&call).about(&self.kept)).await.map(drop);
        // Not before: where this is cancelled while it waits for its turn, dropping the region says it.
        self.taken_back = true;
        done
    }
}

impl<C: Connection> Drop for RegisteredRegion<C> {
    fn drop(&mut self) {
        if !self.taken_back {
            let call = self.end();
            self.connection.call_unheard(call, Arc::clone(&self.kept));
        }
    }
}
