//! The connection that waits by yielding to tokio.

mod link;
mod watch;

use std::{os::fd::BorrowedFd, path::PathBuf, sync::Arc, time::Duration};

use peermem_proto::{
    PciAddress, Region, RegionName, Sharing,
    call::{Call, Empty, GetStatus, ListLeases, ListRegions, Map, Unmap},
    status::Status,
};
use tokio::{runtime::Handle, sync::Mutex};

use self::link::Link;
pub use self::watch::Watch;
use super::{
    CallFailed, ConnectError, Connection, RegisteredRegion,
    held::Sealed,
    pages::{Paged, Pages},
    path,
    region::registration,
};
use crate::Lease;

/// A connection to peermemd. Clones share it; calls of several tasks take turns.
///
/// What was leased or registered through it lives as long as the connection at most. Dropping the future of a call
/// before it is done ends the connection's use: its late reply could be taken for the next one's.
#[derive(Debug, Clone)]
pub struct Client {
    link: Arc<Mutex<Link>>,
    socket: PathBuf,
    /// Where a dropped lease's last call runs: the runtime that drives the socket.
    runtime: Handle,
}

impl Client {
    /// Connects to the daemon where it usually is: see [`peermem_proto::socket_path`] for the rule.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn connect() -> Result<Self, ConnectError> {
        Self::connect_to(path::find()?).await
    }

    /// Connects to the daemon whose socket is at `path`.
    ///
    /// # Errors
    /// [`ConnectError`].
    ///
    /// # Panics
    /// As [`Client::connect`].
    pub async fn connect_to(path: impl Into<PathBuf>) -> Result<Self, ConnectError> {
        let socket = path.into();
        let link = Arc::new(Mutex::new(Link::open(socket.clone()).await?));
        Ok(Self { link, socket, runtime: Handle::current() })
    }

    /// Sets how long each further call may take; [`DEFAULT_TIMEOUT`](crate::DEFAULT_TIMEOUT) at first. A call that takes
    /// longer ends the connection.
    pub async fn set_timeout(&self, timeout: Duration) {
        self.link.lock().await.timeout = timeout;
    }

    /// The daemon's own state.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn status(&self) -> Result<Status, CallFailed> {
        self.call(&GetStatus {}).await
    }

    /// Every region, by name.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn regions(&self) -> Result<Vec<Region>, CallFailed> {
        self.list::<ListRegions>().await
    }

    /// Every lease, by number.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn leases(&self) -> Result<Vec<peermem_proto::Lease>, CallFailed> {
        self.list::<ListLeases>().await
    }

    /// `map_resource`: leases a mapping of a region that its initiators may reach.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn map(&self, request: &Map) -> Result<Lease<Self>, CallFailed> {
        let mut link = self.link.lock().await;
        let (reply, fds) = link.call(request, Vec::new(), 1).await?;
        let Some(fds) = fds else {
            link.call(&Unmap { lease: reply.lease.id }, Vec::new(), 0).await?;
            return Err(CallFailed::NoFreeDescriptor { method: Map::METHOD });
        };
        Lease::granted(reply, fds, self.clone()).map_err(|trouble| link.exchange.lose(trouble).into())
    }

    /// Offers `dmabuf`, memory of the PCI function `device`, as a region named `name`. The daemon gets a duplicate of
    /// the descriptor.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn register(
        &self,
        name: RegionName,
        device: PciAddress,
        dmabuf: BorrowedFd<'_>,
        sharing: Sharing,
    ) -> Result<RegisteredRegion<Self>, CallFailed> {
        let (call, fds) = registration(name, device, dmabuf, sharing)?;
        let (reply, _) = self.link.lock().await.call(&call, fds, 0).await?;
        Ok(RegisteredRegion::new(reply.region, self.clone()))
    }

    /// Streams what happens to regions and leases from now on, over a connection of its own.
    ///
    /// # Errors
    /// [`ConnectError`], also when the daemon refuses the stream.
    pub async fn watch(&self) -> Result<Watch, ConnectError> {
        Watch::begin(Link::open(self.socket.clone()).await?).await
    }

    /// Makes a call that takes and brings no descriptors.
    pub(crate) async fn call<C: Call>(&self, call: &C) -> Result<C::Reply, CallFailed> {
        self.link.lock().await.call(call, Vec::new(), 0).await.map(|(reply, _)| reply)
    }

    async fn list<P: Paged>(&self) -> Result<Vec<P::Item>, CallFailed> {
        let mut pages = Pages::<P>::new();
        while let Some(call) = pages.next_call() {
            let mut link = self.link.lock().await;
            let (page, _) = link.call(&call, Vec::new(), 0).await?;
            pages.add(page).map_err(|trouble| link.exchange.lose(trouble))?;
        }
        Ok(pages.into_items())
    }
}

impl Sealed for Client {
    /// The call runs as a task of its own: what goes out of scope can't wait.
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C) {
        let client = self.clone();
        self.runtime.spawn(async move {
            let _ = client.call(&call).await;
        });
    }
}

impl Connection for Client {}
