//! A socket and what is under way on it, waited for by yielding.

use std::{io, path::Path, sync::Arc, time::Duration};

use peermem_wire::Message;
use tokio::{io::Interest, net::UnixStream, time};

use crate::connection::{
    ConnectError, ConnectionError, Trouble,
    exchange::{Exchange, Step, Want},
    path::{RETRY, try_connect},
    transport::Transport,
};

/// One connection, used by one call at a time.
#[derive(Debug)]
pub(super) struct Link {
    socket: Arc<UnixStream>,
    pub(super) exchange: Exchange,
}

impl Link {
    /// Waits for the next message. Dropping the future loses nothing: what has come is kept for the next one.
    pub(super) async fn receive(&mut self) -> Result<Message, ConnectionError> {
        loop {
            let interest = match self.exchange.want() {
                Want::Readable => Interest::READABLE,
                Want::Writable => Interest::WRITABLE,
            };
            // Stepping inside `try_io` with `WouldBlock` for "blocked" is how tokio learns that readiness is used up.
            let (socket, exchange) = (&self.socket, &mut self.exchange);
            let stepped = socket.try_io(interest, || match exchange.step(&**socket) {
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

impl Transport for Link {
    type Socket = UnixStream;

    async fn connect(path: &Path, timeout: Duration) -> Result<Self, ConnectError> {
        let attempts = async {
            loop {
                match try_connect(path).and_then(UnixStream::from_std) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => time::sleep(RETRY).await,
                    done => return done,
                }
            }
        };
        let path = path.to_owned();
        let socket = match time::timeout(timeout, attempts).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(error)) => return Err(ConnectError::new(path, error)),
            Err(_) => return Err(ConnectError::TimedOut { path, after: timeout }),
        };
        Ok(Self { socket: Arc::new(socket), exchange: Exchange::new(path) })
    }

    async fn receive_within(&mut self, timeout: Duration) -> Result<Message, ConnectionError> {
        match time::timeout(timeout, self.receive()).await {
            Ok(received) => received,
            Err(_) => Err(self.exchange.time_out(timeout)),
        }
    }

    fn socket(&self) -> &Arc<UnixStream> {
        &self.socket
    }

    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    async fn sleep(delay: Duration) {
        time::sleep(delay).await;
    }
}
