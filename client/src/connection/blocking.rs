//! The connection that waits by blocking.

use std::{
    io::PipeWriter,
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use peermem_proto::{
    DeviceFinding, Explanation, Initiator, LeaseId, PciAddress, RdmaName, Region, RegionName, Sharing, Token,
    call::{
        Call, Claim, Empty, Explain, GetStatus, ListLeases, ListRegions, Map, MapReply, Register,
        ReportDevice, ReportPair, Revoke, RevokeReply,
    },
    status::Status,
};

use super::{
    CallFailed, ConnectError, Connection, RegisteredRegion, Watch, guard,
    held::Sealed,
    holdings::{Holding, Kept},
    line::Line,
    link::Link,
    pages::{Paged, Pages},
    path,
    request::Request,
    transport::{Transport, now},
    watch::Ears,
};
use crate::Lease;

/// A connection to peermemd. Clones share it; calls from several threads take turns.
///
/// What was leased or registered through it lives as long as the client at most. When the daemon is restarted or killed,
/// the client comes back and resumes all that by itself: a call that finds the daemon gone waits for it (see
/// [`Client::set_patience`]) and is made again, and once anything is held, a thread that sleeps as long as the daemon lives
/// comes back for it without a call. A mapping or a claim whose reply was lost with the daemon is made again too: what the
/// first one may have been granted has no owner who would resume it, and ends when the daemon's grace period is over.
///
/// The daemon knows the client by its process. A forked child can use what its parent mapped, and can't resume it.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the clones of a client share, and its thread looks after.
#[derive(Debug)]
pub(super) struct Shared {
    line: Mutex<Line<Link>>,
    /// The thread ends with it.
    guard: OnceLock<PipeWriter>,
}

impl Shared {
    /// A panic inside a call leaves it pending, which the next one notices: the lock's poison adds nothing.
    pub(super) fn lock(&self) -> MutexGuard<'_, Line<Link>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let line = now(Line::open(path.into()))?;
        Ok(Self { shared: Arc::new(Shared { line: Mutex::new(line), guard: OnceLock::new() }) })
    }

    /// The socket that this is connected to.
    pub fn socket(&self) -> PathBuf {
        self.lock().socket().to_owned()
    }

    /// Sets how long each further call may take once the daemon has it; [`DEFAULT_TIMEOUT`](super::DEFAULT_TIMEOUT) at
    /// first. A call that takes longer ends the connection.
    pub fn set_timeout(&self, timeout: Duration) {
        self.lock().timeout = timeout;
    }

    /// Sets how long calls wait for a daemon that went away, counted from when it was missed;
    /// [`DEFAULT_TIMEOUT`](super::DEFAULT_TIMEOUT) at first. After that they look once, and fail if it isn't back.
    pub fn set_patience(&self, patience: Duration) {
        self.lock().patience = patience;
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
        self.lease(request, request.descriptors())
    }

    /// Takes over the lease that another process has delegated, under this process's own credentials and quota.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn claim(&self, token: Token) -> Result<Lease, CallFailed> {
        self.lease(&Claim { token }, 1)
    }

    /// Takes a lease, anybody's, from its client. The reply says whether the memory has been taken back, or the client
    /// was only told.
    ///
    /// # Errors
    /// [`CallFailed`]; the policy says who may. If the daemon went away before it answered, it may have been done.
    pub fn revoke(&self, lease: LeaseId) -> Result<RevokeReply, CallFailed> {
        self.request(&Request::new(&Revoke { lease }).once())
    }

    /// Asks what the policy says, and why.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub fn explain(&self, question: &Explain) -> Result<Explanation, CallFailed> {
        self.call(question)
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
    /// [`CallFailed`]. If the daemon was killed before it answered and remembers the region all the same, its name is
    /// taken until the grace period is over.
    pub fn register(
        &self,
        name: RegionName,
        device: PciAddress,
        dmabuf: BorrowedFd<'_>,
        sharing: Sharing,
    ) -> Result<RegisteredRegion, CallFailed> {
        let call = Register { name, device, dmabuf_fd: 0, sharing };
        let mut line = self.lock();
        let (reply, _) = now(line.request(&Request::new(&call).sending(dmabuf)))?;
        let kept = line.holdings.keep(Holding::Region(reply.region.name.clone()));
        self.guard(&line);
        Ok(RegisteredRegion::new(reply.region, kept, self.clone()))
    }

    /// Streams what happens to regions and leases from now on, over a connection of its own.
    ///
    /// # Errors
    /// [`ConnectError`], also when the daemon refuses the stream.
    pub fn watch(&self) -> Result<Watch, ConnectError> {
        let (link, instance) = now(Link::open(&self.socket(), super::DEFAULT_TIMEOUT))?;
        Watch::begin(link, Ears { holdings: Arc::clone(&self.lock().holdings), instance })
    }

    fn call<C: Call<Reply: Send> + Sync>(&self, call: &C) -> Result<C::Reply, CallFailed> {
        self.request(&Request::new(call))
    }

    /// Makes a call that brings no descriptors.
    pub(crate) fn request<C: Call<Reply: Send> + Sync>(
        &self,
        request: &Request<'_, C>,
    ) -> Result<C::Reply, CallFailed> {
        now(self.lock().request(request)).map(|(reply, _)| reply)
    }

    fn lease<C: Call<Reply = MapReply> + Sync>(&self, call: &C, brings: usize) -> Result<Lease, CallFailed> {
        let mut line = self.lock();
        let granted = now(line.grant(call, brings))?;
        self.guard(&line);
        Ok(Lease::new(granted, self.clone()))
    }

    fn list<P: Paged<Reply: Send> + Sync>(&self) -> Result<Vec<P::Item>, CallFailed> {
        let mut pages = Pages::<P>::new();
        while let Some(call) = pages.next_call() {
            let mut line = self.lock();
            let (page, _) = now(line.request(&Request::new(&call)))?;
            pages.add(page).map_err(|trouble| line.lose(P::METHOD, trouble))?;
        }
        Ok(pages.into_items())
    }

    /// From the first holding on, a thread comes back for them all.
    fn guard(&self, line: &Line<Link>) {
        let (None, Some(socket)) = (self.shared.guard.get(), line.connected()) else { return };
        match guard::start(Arc::downgrade(&self.shared), socket) {
            // Nobody has set another one: the line is locked.
            Ok(guard) => drop(self.shared.guard.set(guard)),
            Err(error) => {
                tracing::warn!(%error, "a restart of peermemd won't be noticed before the next call");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line<Link>> {
        self.shared.lock()
    }
}

impl Sealed for Client {
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C, kept: Arc<Kept>) {
        now(self.lock().last_words(&call, &kept));
    }
}

impl Connection for Client {}
