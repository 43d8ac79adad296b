//! A socket and what is under way on it, waited for by yielding.

use std::{io, os::fd::OwnedFd, path::PathBuf, time::Duration};

use peermem_proto::call::Call;
use peermem_wire::Message;
use tokio::{io::Interest, net::UnixStream, time};

use crate::connection::{
    CallFailed, ConnectError, ConnectionError, DEFAULT_TIMEOUT, Trouble,
    exchange::{Exchange, Step, Want},
    path::{RETRY, try_connect},
};

/// One connection, used by one call at a time.
#[derive(Debug)]
pub(super) struct Link {
    socket: UnixStream,
    pub(super) exchange: Exchange,
    pub(super) timeout: Duration,
}

impl Link {
    /// Connects to the socket at `path`, and agrees on the protocol.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn open(path: PathBuf) -> Result<Self, ConnectError> {
        let attempts = async {
            loop {
                match try_connect(&path).and_then(UnixStream::from_std) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => time::sleep(RETRY).await,
                    done => return done,
                }
            }
        };
        let socket = match time::timeout(DEFAULT_TIMEOUT, attempts).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(ConnectError::new(path, error)),
            Err(_) => return Err(ConnectError::TimedOut { path, after: DEFAULT_TIMEOUT }),
        };
        let mut link = Self { socket, exchange: Exchange::new(path), timeout: DEFAULT_TIMEOUT };
        let answer = link.call(&Exchange::GREETING, Vec::new(), 0).await.map(|(hello, _)| hello);
        link.exchange.greeted(answer)?;
        Ok(link)
    }

    /// Makes a call that brings exactly `expected` descriptors back; see [`Exchange::finish`].
    pub(super) async fn call<C: Call>(
        &mut self,
        call: &C,
        fds: Vec<OwnedFd>,
        expected: usize,
    ) -> Result<(C::Reply, Option<Vec<OwnedFd>>), CallFailed> {
        self.exchange.begin(call, false, fds)?;
        let message = self.receive_in_time().await?;
        self.exchange.finish::<C>(message, false, expected)
    }

    /// Waits for the next message, [`Link::timeout`] at most.
    pub(super) async fn receive_in_time(&mut self) -> Result<Message, ConnectionError> {
        let timeout = self.timeout;
        match time::timeout(timeout, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(self.exchange.time_out(timeout)),
        }
    }

    /// Waits for the next message. Dropping the future loses nothing: what has come is kept for the next one.
    pub(super) async fn receive(&mut self) -> Result<Message, ConnectionError> {
        loop {
            let interest = match self.exchange.want() {
                Want::Readable => Interest::READABLE,
                Want::Writable => Interest::WRITABLE,
            };
            // Stepping inside `try_io` with `WouldBlock` for "blocked" is how tokio learns that readiness is used up.
            let (socket, exchange) = (&self.socket, &mut self.exchange);
            let stepped = socket.try_io(interest, || match exchange.step(socket) {
                Ok(Step::Blocked) => Err(io::ErrorKind::WouldBlock.into()),
                other => Ok(other),
            });
            match stepped {
                Ok(Ok(Step::Received(message))) => return Ok(message),
                Ok(Ok(Step::Moved | Step::Blocked)) => {}
                Ok(Err(lost)) => return Err(lost),
                Err(_) => {
                    if let Err(error) = self.socket.ready(interest).await {
                        return Err(self.exchange.lose(Trouble::Io(error)));
                    }
                }
            }
        }
    }
}
