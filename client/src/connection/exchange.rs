//! One call's way there and back, without waiting: the part that both clients share.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use peermem_proto::{
    PROTOCOL_VERSION,
    call::{Call, Hello, HelloReply},
    varlink::{Reply, ReplyError, decode_reply, encode_call},
};
use peermem_wire::{Fill, Message, Outgoing, Reader};

use super::{CallFailed, ConnectError, ConnectionError, Trouble};

/// What must happen before [`Exchange::step`] can get any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Readable,
    Writable,
}

/// What a step brought.
#[derive(Debug)]
pub(super) enum Step {
    /// Something moved: step again.
    Moved,
    /// Nothing can move before [`Exchange::want`] comes true.
    Blocked,
    /// A whole reply.
    Received(Message),
}

/// The state of a connection between system calls.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: PathBuf,
    reader: Reader,
    outgoing: Option<Outgoing>,
    /// The latest call.
    method: &'static str,
    /// Whether its reply, or another one of its stream, is due.
    pending: bool,
    /// Whether any of it has been sent.
    heard: bool,
    /// Why this connection must not be used any more.
    given_up: Option<String>,
}

impl Exchange {
    /// Nothing said yet. `socket` is for messages only.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            reader: Reader::new(),
            outgoing: None,
            method: "no call",
            pending: false,
            heard: false,
            given_up: None,
        }
    }

    /// The socket's path.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the daemon may have carried out the latest call.
    pub(super) fn was_heard(&self) -> bool {
        self.heard
    }

    /// Why it isn't known which call the next reply would belong to, if it isn't.
    pub(super) fn doubt(&self) -> Option<String> {
        let abandoned = || self.pending.then(|| abandoned(self.method));
        self.given_up.clone().or_else(abandoned)
    }

    /// Starts a call.
    ///
    /// # Errors
    /// [`CallFailed::Lost`] when an earlier call left the connection in doubt.
    pub(super) fn begin<C: Call>(
        &mut self,
        call: &C,
        more: bool,
        fds: Vec<OwnedFd>,
    ) -> Result<(), CallFailed> {
        let earlier = std::mem::replace(&mut self.method, C::METHOD);
        if self.pending {
            // Only a future that was dropped while it waited leaves a call pending.
            self.given_up.get_or_insert_with(|| abandoned(earlier));
        }
        if let Some(because) = self.given_up.clone() {
            return Err(self.error(Trouble::GivenUp { because }).into());
        }
        if self.reader.has_partial() {
            return Err(self.lose(Trouble::Unsolicited).into());
        }
        let json = encode_call(call, more)
            .map_err(|error| CallFailed::Unsendable { method: C::METHOD, source: error.into() })?;
        self.outgoing = Some(Outgoing::new(json, fds));
        self.pending = true;
        self.heard = false;
        Ok(())
    }

    /// What to wait for after [`Step::Blocked`].
    pub(super) fn want(&self) -> Want {
        if self.outgoing.is_some() { Want::Writable } else { Want::Readable }
    }

    /// The call that a connection begins with.
    pub(super) const GREETING: Hello = Hello { protocol: PROTOCOL_VERSION };

    /// Judges the answer to [`Self::GREETING`], and brings the name of the daemon's table of leases.
    ///
    /// # Errors
    /// There is no connection, and why.
    pub(super) fn greeted(&self, answer: Result<HelloReply, CallFailed>) -> Result<String, ConnectError> {
        let path = self.socket.clone();
        match answer {
            Ok(hello) if hello.protocol == PROTOCOL_VERSION => Ok(hello.instance),
            Ok(hello) => Err(ConnectError::WrongVersion { path, theirs: hello.protocol }),
            Err(source) => Err(ConnectError::Greeting { path, source }),
        }
    }

    /// Does at most one system call.
    ///
    /// # Errors
    /// The connection is lost.
    pub(super) fn step(&mut self, socket: impl AsFd) -> Result<Step, ConnectionError> {
        if let Some(message) = self.reader.next().map_err(|error| self.lose(error.into()))? {
            return Ok(Step::Received(message));
        }
        let moved = match self.outgoing.as_mut() {
            Some(outgoing) => outgoing.send(socket).map(|whole| {
                self.heard = true;
                if whole {
                    self.outgoing = None;
                }
            }),
            None => self.reader.fill(socket).and_then(|fill| match fill {
                Fill::Data => Ok(()),
                Fill::End => Err(io::ErrorKind::UnexpectedEof.into()),
            }),
        };
        let Err(error) = moved else { return Ok(Step::Moved) };
        match error.kind() {
            io::ErrorKind::WouldBlock => Ok(Step::Blocked),
            io::ErrorKind::Interrupted => Ok(Step::Moved),
            // A daemon that refuses a connection says why and hangs up without reading: its words still wait here.
            io::ErrorKind::BrokenPipe if self.outgoing.take().is_some() => Ok(Step::Moved),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if self.reader.has_partial() => {
                Err(self.lose(Trouble::ClosedInside))
            }
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Err(self.lose(Trouble::Closed)),
            _ => Err(self.lose(Trouble::Io(error))),
        }
    }

    /// Reads the reply of the pending call, or the next one of a stream that `more` asked for. It must bring exactly
    /// `expected` descriptors; they are `None` when they were lost on arrival for want of room in this process.
    ///
    /// # Errors
    /// The daemon's error, or the connection is lost.
    pub(super) fn finish<C: Call>(
        &mut self,
        message: Message,
        more: bool,
        expected: usize,
    ) -> Result<(C::Reply, Option<Vec<OwnedFd>>), CallFailed> {
        let (reply, expected) = match decode_reply(&message.bytes) {
            Err(ReplyError::Malformed(error)) => return Err(self.lose(Trouble::Malformed(error)).into()),
            Err(ReplyError::Call(error)) => (Err(error), 0),
            Ok(Reply { continues: true, .. }) if !more => {
                return Err(self.lose(Trouble::Unsolicited).into());
            }
            Ok(reply) => (Ok(reply), expected),
        };
        let lost = message.fds.lost() && expected > 0;
        let fds = match message.fds.take(expected) {
            Ok(fds) => Some(fds),
            Err(_) if lost => None,
            Err(got) => return Err(self.lose(Trouble::Descriptors { got, expected }).into()),
        };
        self.pending = reply.as_ref().is_ok_and(|reply| reply.continues);
        Ok((reply?.parameters, fds))
    }

    /// Gives the connection up because the reply didn't come in time.
    pub(super) fn time_out(&mut self, after: Duration) -> ConnectionError {
        self.lose(Trouble::TimedOut { after })
    }

    /// Gives the connection up.
    pub(super) fn lose(&mut self, trouble: Trouble) -> ConnectionError {
        self.given_up.get_or_insert_with(|| trouble.to_string());
        self.outgoing = None;
        self.error(trouble)
    }

    fn error(&self, trouble: Trouble) -> ConnectionError {
        ConnectionError { socket: self.socket.clone(), method: self.method, trouble }
    }
}

fn abandoned(method: &str) -> String {
    format!("{method} was abandoned before its reply came")
}
