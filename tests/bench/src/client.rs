//! The barest client: prepared bytes out, bytes and a descriptor in. It parses nothing but a lease's number, so that what is
//! measured is the other side.

use std::{
    io::{self, IoSliceMut, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use peermem_proto::{
    ByteLen, Direction, Extent, Initiator, LeaseId, PROTOCOL_VERSION,
    call::{Call, Hello, Map, Unmap},
    varlink::encode_call,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::daemon::REGION;

/// How long every lease is, in bytes.
const LENGTH: u64 = 4096;

/// What stands before a lease's number in the reply to a mapping, of which it is the first such thing.
const NUMBER: &[u8] = b"\"id\":";

/// One connection.
pub(crate) struct Client {
    socket: UnixStream,
    /// The reply so far is its first `filled` bytes.
    reply: Vec<u8>,
    filled: usize,
    map: Vec<u8>,
}

impl Client {
    /// Over a socket that is connected.
    pub(crate) fn new(socket: UnixStream) -> Result<Self> {
        Ok(Self { socket, reply: vec![0; 4096], filled: 0, map: message(&request()?)? })
    }

    /// Connects to the daemon whose socket is at `path`, and greets it.
    pub(crate) fn connect(path: &Path) -> Result<Self> {
        let socket =
            UnixStream::connect(path).with_context(|| format!("can't connect to {}", path.display()))?;
        let mut client = Self::new(socket)?;
        client.call(&Hello { protocol: PROTOCOL_VERSION })?;
        Ok(client)
    }

    /// From now on, [`Self::receive`] fails with [`io::ErrorKind::WouldBlock`] rather than wait.
    pub(crate) fn never_wait(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)
    }

    /// Makes a call, and returns the bytes of its reply. A descriptor that comes along is closed.
    pub(crate) fn call<C: Call>(&mut self, call: &C) -> Result<&[u8]> {
        self.send(&message(call)?)?;
        self.receive()?;
        self.reply()
    }

    /// Maps some memory, and gives it back: how long that took. The descriptor is closed on the way, as a client would.
    pub(crate) fn map_and_unmap(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let (lease, memory) = self.map()?;
        drop(memory);
        self.unmap(lease)?;
        Ok(began.elapsed())
    }

    /// Maps some memory.
    pub(crate) fn map(&mut self) -> Result<(LeaseId, OwnedFd)> {
        self.begin_map()?;
        let memory = self.receive()?.context("a mapping brought no descriptor")?;
        Ok((self.lease()?, memory))
    }

    /// Gives a lease back.
    pub(crate) fn unmap(&mut self, lease: LeaseId) -> Result<()> {
        self.begin_unmap(lease)?;
        self.receive()?;
        self.reply().map(drop)
    }

    /// Asks for a mapping.
    pub(crate) fn begin_map(&self) -> io::Result<()> {
        self.send(&self.map)
    }

    /// Asks for the end of a lease.
    pub(crate) fn begin_unmap(&self, lease: LeaseId) -> Result<()> {
        Ok(self.send(&message(&Unmap { lease })?)?)
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        // As short as these are, they go whole or not at all.
        (&self.socket).write_all(message)
    }

    /// Receives a reply and the descriptor that came with it. After [`io::ErrorKind::WouldBlock`], go on with it later.
    pub(crate) fn receive(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.reply[..self.filled].ends_with(&[0]) {
            self.filled = 0;
        }
        let mut memory = None;
        loop {
            if self.filled == self.reply.len() {
                self.reply.resize(2 * self.filled, 0);
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let rest = IoSliceMut::new(&mut self.reply[self.filled..]);
            let received = recvmsg(&self.socket, &mut [rest], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    memory = fds.last();
                }
            }
            self.filled += received.bytes;
            match received.bytes {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ if self.reply[self.filled - 1] == 0 => return Ok(memory),
                _ => {}
            }
        }
    }

    /// The latest reply, if it is no error.
    pub(crate) fn reply(&self) -> Result<&[u8]> {
        let reply = self.reply[..self.filled].strip_suffix(&[0]).unwrap_or_default();
        if reply.starts_with(b"{\"error\"") {
            bail!("refused: {}", String::from_utf8_lossy(reply));
        }
        Ok(reply)
    }

    /// The lease of the latest reply, which was one to a mapping.
    pub(crate) fn lease(&self) -> Result<LeaseId> {
        let reply = self.reply()?;
        let at = reply.windows(NUMBER.len()).position(|piece| piece == NUMBER);
        let digits = &reply[at.context("a mapping brought no lease")? + NUMBER.len()..];
        let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
        Ok(LeaseId::new(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The mapping that every benchmark asks for.
pub(crate) fn request() -> Result<Map> {
    let extent = Extent::Size(ByteLen::new(LENGTH));
    Ok(Map::new(REGION.parse()?, extent, [Initiator::Emulated], Direction::Bidirectional))
}

/// The bytes of a call.
fn message<C: Call>(call: &C) -> Result<Vec<u8>> {
    let mut bytes = encode_call(call, false)?;
    bytes.push(0);
    Ok(bytes)
}
