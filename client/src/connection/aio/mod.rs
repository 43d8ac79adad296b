//! The connection that waits by yielding to tokio.

mod guard;
mod link;
mod watch;

use std::{
    os::fd::BorrowedFd,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use peermem_proto::{
    Explanation, LeaseId, PciAddress, Region, RegionName, Sharing, Token,
    call::{
        Call, Claim, Empty, Explain, GetStatus, ListLeases, ListRegions, Map, MapReply, Register, Revoke,
        RevokeReply,
    },
    status::Status,
};
use tokio::{runtime::Handle, sync::Mutex, task::JoinHandle};

use self::link::Link;
pub use self::watch::Watch;
use super::{
    CallFailed, ConnectError, Connection, DEFAULT_TIMEOUT, RegisteredRegion,
    held::Sealed,
    holdings::{Holding, Holdings, Kept},
    line::Line,
    pages::{Paged, Pages},
    path,
    request::Request,
    transport::Transport,
    watch::Ears,
};
use crate::Lease;

/// A connection to peermemd. Clones share it; calls of several tasks take turns.
///
/// What was leased or registered through it lives as long as the client at most. It comes back after a restart of the
/// daemon as [`crate::Client`] does, with a task instead of a thread. Dropping the future of a call before it is done ends
/// the connection's use: its late reply could be taken for the next one's.
#[derive(Debug, Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What the clones of a client share, and its task looks after.
#[derive(Debug)]
struct Shared {
    line: Mutex<Line<Link>>,
    /// The line's own, for those who mustn't wait for a call of another task's.
    holdings: Arc<Holdings>,
    socket: PathBuf,
    /// Where a dropped lease's last call runs: the runtime that drives the socket.
    runtime: Handle,
    guard: OnceLock<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.get() {
            guard.abort();
        }
    }
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
        let line = Line::open(socket.clone()).await?;
        let holdings = Arc::clone(&line.holdings);
        let line = Mutex::new(line);
        let shared = Shared { line, holdings, socket, runtime: Handle::current(), guard: OnceLock::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sets how long each further call may take once the daemon has it; [`DEFAULT_TIMEOUT`] at first. A call that takes
    /// longer ends the connection.
    pub async fn set_timeout(&self, timeout: Duration) {
        self.shared.line.lock().await.timeout = timeout;
    }

    /// Sets how long calls wait for a daemon that went away, counted from when it was missed; [`DEFAULT_TIMEOUT`] at
    /// first. After that they look once, and fail if it isn't back.
    pub async fn set_patience(&self, patience: Duration) {
        self.shared.line.lock().await.patience = patience;
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
        self.lease(request, request.descriptors()).await
    }

    /// Takes over the lease that another process has delegated, under this process's own credentials and quota.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn claim(&self, token: Token) -> Result<Lease<Self>, CallFailed> {
        self.lease(&Claim { token }, 1).await
    }

    /// Takes a lease, anybody's, from its client. The reply says whether the memory has been taken back, or the client
    /// was only told.
    ///
    /// # Errors
    /// [`CallFailed`]; the policy says who may. If the daemon went away before it answered, it may have been done.
    pub async fn revoke(&self, lease: LeaseId) -> Result<RevokeReply, CallFailed> {
        self.request(&Request::new(&Revoke { lease }).once()).await
    }

    /// Asks what the policy says, and why.
    ///
    /// # Errors
    /// [`CallFailed`].
    pub async fn explain(&self, question: &Explain) -> Result<Explanation, CallFailed> {
        self.call(question).await
    }

    /// Offers `dmabuf`, memory of the PCI function `device`, as a region named `name`. The daemon gets a duplicate of
    /// the descriptor.
    ///
    /// # Errors
    /// [`CallFailed`]. If the daemon was killed before it answered and remembers the region all the same, its name is
    /// taken until the grace period is over.
    pub async fn register(
        &self,
        name: RegionName,
        device: PciAddress,
        dmabuf: BorrowedFd<'_>,
        sharing: Sharing,
    ) -> Result<RegisteredRegion<Self>, CallFailed> {
        let call = Register { name, device, dmabuf_fd: 0, sharing };
        let mut line = self.shared.line.lock().await;
        let (reply, _) = line.request(&Request::new(&call).sending(dmabuf)).await?;
        let kept = line.holdings.keep(Holding::Region(reply.region.name.clone()));
        self.guard(&line);
        Ok(RegisteredRegion::new(reply.region, kept, self.clone()))
    }

    /// Streams what happens to regions and leases from now on, over a connection of its own.
    ///
    /// # Errors
    /// [`ConnectError`], also when the daemon refuses the stream.
    pub async fn watch(&self) -> Result<Watch, ConnectError> {
        let (link, instance) = Link::open(&self.shared.socket, DEFAULT_TIMEOUT).await?;
        Watch::begin(link, Ears { holdings: Arc::clone(&self.shared.holdings), instance }).await
    }

    async fn call<C: Call<Reply: Send> + Sync>(&self, call: &C) -> Result<C::Reply, CallFailed> {
        self.request(&Request::new(call)).await
    }

    /// Makes a call that brings no descriptors.
    pub(crate) async fn request<C: Call<Reply: Send> + Sync>(
        &self,
        request: &Request<'_, C>,
    ) -> Result<C::Reply, CallFailed> {
        self.shared.line.lock().await.request(request).await.map(|(reply, _)| reply)
    }

    async fn lease<C: Call<Reply = MapReply> + Sync>(
        &self,
        call: &C,
        brings: usize,
    ) -> Result<Lease<Self>, CallFailed> {
        let mut line = self.shared.line.lock().await;
        let granted = line.grant(call, brings).await?;
        self.guard(&line);
        Ok(Lease::new(granted, self.clone()))
    }

    async fn list<P: Paged<Reply: Send> + Sync>(&self) -> Result<Vec<P::Item>, CallFailed> {
        let mut pages = Pages::<P>::new();
        while let Some(call) = pages.next_call() {
            let mut line = self.shared.line.lock().await;
            let (page, _) = line.request(&Request::new(&call)).await?;
            pages.add(page).map_err(|trouble| line.lose(P::METHOD, trouble))?;
        }
        Ok(pages.into_items())
    }

    /// From the first holding on, a task comes back for them all.
    fn guard(&self, line: &Line<Link>) {
        if let Some(socket) = line.connected() {
            let run = || self.shared.runtime.spawn(guard::run(Arc::downgrade(&self.shared), socket));
            self.shared.guard.get_or_init(run);
        }
    }
}

impl Sealed for Client {
    /// The call runs as a task of its own: what goes out of scope can't wait.
    fn call_unheard<C: Call<Reply = Empty> + Send + Sync + 'static>(&self, call: C, kept: Arc<Kept>) {
        let client = self.clone();
        self.shared.runtime.spawn(async move {
            client.shared.line.lock().await.last_words(&call, &kept).await;
        });
    }
}

impl Connection for Client {}
