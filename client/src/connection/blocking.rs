//! The connection that waits by blocking.

use std::{
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use peermem_proto::{
    DeviceFinding, Initiator, PciAddress, RdmaName, Region, RegionName, Sharing,
    call::{Call, Empty, GetStatus, ListLeases, ListRegions, Map, ReportDevice, ReportPair, Unmap},
    status::Status,
};

use super::{
    CallFailed, ConnectError, Connection, RegisteredRegion, Watch,
    held::Sealed,
    link::Link,
    pages::{Paged, Pages},
    path,
    region::registration,
};
use crate::Lease;

/// A connection to peermemd. Clones share it; calls from several threads take turns.
///
/// What was leased or registered through it lives as long as the connection at most.
#[derive(Debug, Clone)]
pub struct Client {
    link: Arc<Mutex<Link>>,
}

impl Client {
    /// Connects to the daemon where it usually is: see [`peermem_proto::socket_path`] for the rule.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect() -> Result<Self, ConnectError> {
        Self::connect_to(path::find()?)
    }

    /// Connects to the daemon whose socket is at `path`.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub fn connect_to(path: impl Into<PathBuf>) -> Result<Self, ConnectError> {
        Ok(Self { link: Arc::new(Mutex::new(Link::open(path.into())?)) })
    }

    /// The socket that this is connected to.
    pub fn socket(&self) -> PathBuf {
        self.lock().exchange.socket().to_owned()
    }

    /// Sets how long each further call may take; [`DEFAULT_TIMEOUT`](super::DEFAULT_TIMEOUT) at first. A call that takes longer ends the
    /// connection.
    pub fn set_timeout(&self, timeout: Duration) {
        self.lock().timeout = timeout;
    }

    /// The daemon's own state.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn status(&self) -> Result<Status, CallFailed> {
        self.call(&GetStatus {})
    }

    /// Every region, by name.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn regions(&self) -> Result<Vec<Region>, CallFailed> {
        self.list::<ListRegions>()
    }

    /// Every lease, by number.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn leases(&self) -> Result<Vec<peermem_proto::Lease>, CallFailed> {
        self.list::<ListLeases>()
    }

    /// `map_resource`: leases a mapping of a region that its initiators may reach.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn map(&self, request: &Map) -> Result<Lease, CallFailed> {
        let mut link = self.lock();
        let (reply, fds) = link.call(request, Vec::new(), 1)?;
        let Some(fds) = fds else {
            link.call(&Unmap { lease: reply.lease.id }, Vec::new(), 0)?;
            return Err(CallFailed::NoFreeDescriptor { method: Map::METHOD });
        };
        Lease::granted(reply, fds, self.clone()).map_err(|trouble| link.exchange.lose(trouble).into())
    }

    /// Tells the daemon what a self-test found of an RDMA device: mappings for it carry that, or are refused for it.
    ///
    /// # Errors
    /// [`CallFailed`]; only root may report.
    pub fn report_device(&self, device: RdmaName, found: DeviceFinding) -> Result<(), CallFailed> {
        self.call(&ReportDevice { device, found }).map(|_| ())
    }

    /// Tells the daemon whether bytes arrived between two devices; `wrong` says what didn't.
    ///
    /// # Errors
    /// [`CallFailed`]; only root may report.
    pub fn report_pair(
        &self,
        provider: PciAddress,
        initiator: Initiator,
        wrong: Option<String>,
    ) -> Result<(), CallFailed> {
        self.call(&ReportPair { provider, initiator, wrong }).map(|_| ())
    }

    /// Offers `dmabuf`, memory of the PCI function `device`, as a region named `name`. The daemon gets a duplicate of the
    /// descriptor.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn register(
        &self,
        name: RegionName,
        device: PciAddress,
        dmabuf: BorrowedFd<'_>,
        sharing: Sharing,
    ) -> Result<RegisteredRegion, CallFailed> {
        let (call, fds) = registration(name, device, dmabuf, sharing)?;
        let (reply, _) = self.lock().call(&call, fds, 0)?;
        Ok(RegisteredRegion::new(reply.region, self.clone()))
    }

    /// Streams what happens to regions and leases from now on, over a connection of its own.
    ///
    /// # Errors
    /// [`ConnectError`], also when the daemon refuses the stream.
    pub fn watch(&self) -> Result<Watch, ConnectError> {
        Watch::begin(Link::open(self.socket())?)
    }

    /// Makes a call that takes and brings no descriptors.
    pub(crate) fn call<C: Call>(&self, call: &C) -> Result<C::Reply, CallFailed> {
        self.lock().call(call, Vec::new(), 0).map(|(reply, _)| reply)
    }

    fn list<P: Paged>(&self) -> Result<Vec<P::Item>, CallFailed> {
        let mut pages = Pages::<P>::new();
        while let Some(call) = pages.next_call() {
            let mut link = self.lock();
            let (page, _) = link.call(&call, Vec::new(), 0)?;
            pages.add(page).map_err(|trouble| link.exchange.lose(trouble))?;
        }
        Ok(pages.into_items())
    }

    /// A panic inside a call leaves it pending, which the next one notices: the lock's poison adds nothing.
    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sealed for Client {
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C) {
        let _ = self.call(&call);
    }
}

impl Connection for Client {}
