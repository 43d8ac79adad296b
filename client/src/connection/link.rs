//! A socket and what is under way on it, waited for by blocking.

use std::{
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use peermem_proto::call::Call;
use peermem_wire::Message;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

use super::{
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
    pub(super) fn open(path: PathBuf) -> Result<Self, ConnectError> {
        let mut link = Self::connect(path)?;
        let answer = link.call(&Exchange::GREETING, Vec::new(), 0).map(|(hello, _)| hello);
        link.exchange.greeted(answer)?;
        Ok(link)
    }

    fn connect(path: PathBuf) -> Result<Self, ConnectError> {
        let deadline = Instant::now() + DEFAULT_TIMEOUT;
        loop {
            match try_connect(&path) {
                Ok(socket) => {
                    return Ok(Self { socket, exchange: Exchange::new(path), timeout: DEFAULT_TIMEOUT });
                }
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                    return Err(ConnectError::new(path, error));
                }
                Err(_) if Instant::now() >= deadline => {
                    return Err(ConnectError::TimedOut { path, after: DEFAULT_TIMEOUT });
                }
                Err(_) => thread::sleep(RETRY),
            }
        }
    }

    /// Makes a call that brings exactly `expected` descriptors back; see [`Exchange::finish`].
    pub(super) fn call<C: Call>(
        &mut self,
        call: &C,
        fds: Vec<OwnedFd>,
        expected: usize,
    ) -> Result<(C::Reply, Option<Vec<OwnedFd>>), CallFailed> {
        self.exchange.begin(call, false, fds)?;
        let message = self.receive(Some(self.timeout))?;
        self.exchange.finish::<C>(message, false, expected)
    }

    /// Waits for the next message, for ever without `timeout`.
    pub(super) fn receive(&mut self, timeout: Option<Duration>) -> Result<Message, ConnectionError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            if let Some(message) = self.try_receive()? {
                return Ok(message);
            }
            self.wait(deadline)?;
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

    fn wait(&mut self, deadline: Option<Instant>) -> Result<(), ConnectionError> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(self.exchange.time_out(self.timeout));
        }
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
