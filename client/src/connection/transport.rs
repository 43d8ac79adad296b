//! What the two clients do differently: how they wait.

use std::{
    os::fd::OwnedFd,
    path::Path,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use peermem_proto::call::Call;
use peermem_wire::Message;

use super::{CallFailed, ConnectError, ConnectionError, exchange::Exchange};

/// A reply, and its descriptors: see [`Exchange::finish`].
pub(super) type Brought<C> = (<C as Call>::Reply, Option<Vec<OwnedFd>>);

/// A socket and what is under way on it. The futures of the blocking one never yield, so that what is written once over both
/// runs there by [`now`].
pub(super) trait Transport: Sized + Send {
    /// The socket, for who wants to hear of its hanging up.
    type Socket: Send + Sync;

    /// Connects to the socket at `path`.
    fn connect(path: &Path, timeout: Duration) -> impl Future<Output = Result<Self, ConnectError>> + Send;

    /// Waits for the next message, `timeout` at most.
    fn receive_within(
        &mut self,
        timeout: Duration,
    ) -> impl Future<Output = Result<Message, ConnectionError>> + Send;

    /// The socket.
    fn socket(&self) -> &Arc<Self::Socket>;

    /// What is under way.
    fn exchange(&mut self) -> &mut Exchange;

    /// Waits.
    fn sleep(delay: Duration) -> impl Future<Output = ()> + Send;

    /// Connects to the socket at `path`, and agrees on the protocol. Brings the name of the daemon's table of leases. A daemon that stops
    /// meanwhile is left for the one that comes after it.
    fn open(
        path: &Path,
        timeout: Duration,
    ) -> impl Future<Output = Result<(Self, String), ConnectError>> + Send {
        /// More daemons one after the other would be one that dies of greetings.
        const DAEMONS: u32 = 3;
        async move {
            let mut met = 1;
            loop {
                let mut transport = Self::connect(path, timeout).await?;
                let answer = transport.call(&Exchange::GREETING, Vec::new(), 0, timeout).await;
                match answer {
                    Err(CallFailed::Lost(lost)) if lost.trouble.is_hangup() && met < DAEMONS => met += 1,
                    answer => {
                        let instance = transport.exchange().greeted(answer.map(|(hello, _)| hello))?;
                        return Ok((transport, instance));
                    }
                }
            }
        }
    }

    /// Makes a call that brings exactly `expected` descriptors back.
    fn call<C: Call<Reply: Send> + Sync>(
        &mut self,
        call: &C,
        fds: Vec<OwnedFd>,
        expected: usize,
        timeout: Duration,
    ) -> impl Future<Output = Result<Brought<C>, CallFailed>> + Send {
        async move {
            self.exchange().begin(call, false, fds)?;
            let message = self.receive_within(timeout).await?;
            self.exchange().finish::<C>(message, false, expected)
        }
    }
}

/// What a future brings that never yields.
///
/// # Panics
/// If it yields: the blocking transport's futures don't.
pub(super) fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("a blocking transport yielded"),
    }
}
