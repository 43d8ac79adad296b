//! A socket and what is under way on it, waited for by blocking.

use std::{
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use peermem_wire::Message;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
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
    /// Waits for the next message, for ever without `timeout`.
    pub(super) fn receive(&mut self, timeout: Option<Duration>) -> Result<Message, ConnectionError> {
        let began = Instant::now();
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            let left = timeout.map(|timeout| timeout.saturating_sub(began.elapsed()));
            match timeout {
                Some(after) if left == Some(Duration::ZERO) => return Err(self.exchange.time_out(after)),
                _ => self.wait(left)?,
            }
        }
    }

    /// The next message, if it has come.
    pub(super) fn try_receive(&mut self) -> Result<Option<Message>, ConnectionError> {
        loop {
            match self.exchange.step(&self.socket)? {
                Step::Received(message) => return Ok(Some(message)),
                Step::Moved => {}
                Step::Blocked => return Ok(None),
            }
        }
    }

    fn wait(&mut self, left: Option<Duration>) -> Result<(), ConnectionError> {
        // What no timespec holds is longer than anyone waits.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        let flags = match self.exchange.want() {
            Want::Readable => PollFlags::IN,
            Want::Writable => PollFlags::OUT,
        };
        match poll(&mut [PollFd::new(&self.socket, flags)], left.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(self.exchange.lose(Trouble::Io(error.into()))),
        }
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Transport for Link {
    type Socket = UnixStream;

    async fn connect(path: &Path, timeout: Duration) -> Result<Self, ConnectError> {
        let began = Instant::now();
        loop {
            match try_connect(path) {
                Ok(socket) => {
                    return Ok(Self { socket: Arc::new(socket), exchange: Exchange::new(path.to_owned()) });
                }
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                    return Err(ConnectError::new(path.to_owned(), error));
                }
                Err(_) if began.elapsed() >= timeout => {
                    return Err(ConnectError::TimedOut { path: path.to_owned(), after: timeout });
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    async fn receive_within(&mut self, timeout: Duration) -> Result<Message, ConnectionError> {
        self.receive(Some(timeout))
    }

    fn socket(&self) -> &Arc<UnixStream> {
        &self.socket
    }

    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }

    async fn sleep(delay: Duration) {
        thread::sleep(delay);
    }
}
