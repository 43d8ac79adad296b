//! The floor: the same bytes and a descriptor back and forth between two processes, by blocking calls, and nothing else.

use std::{
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command},
};

use anyhow::{Context, Result};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::client::Client;

/// The process on the other side. It ends with its socket.
pub(crate) struct Floor {
    child: Child,
}

impl Floor {
    /// Starts one that answers every mapping with `reply`, and a client of it.
    pub(crate) fn start(reply: &[u8]) -> Result<(Self, Client)> {
        let (here, there) = UnixStream::pair()?;
        let child = Command::new(std::env::current_exe()?)
            .arg("floor")
            .arg(std::str::from_utf8(reply)?)
            .stdin(OwnedFd::from(there))
            .spawn()
            .context("can't start the floor")?;
        Ok((Self { child }, Client::new(here)?))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the daemon on standard input, which is a socket: every odd message is a mapping, every even one ends it.
pub(crate) fn serve(reply: &str) -> Result<()> {
    let mut socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mapped = [reply.as_bytes(), b"\0"].concat();
    let mut message = [0; 4096];
    loop {
        if receive(&mut socket, &mut message)? == 0 {
            return Ok(());
        }
        let fds = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&socket, &[IoSlice::new(&mapped)], &mut control, SendFlags::NOSIGNAL)?;
        if receive(&mut socket, &mut message)? == 0 {
            return Ok(());
        }
        socket.write_all(b"{\"parameters\":{}}\0")?;
    }
}

/// One message: how long it is, 0 at the end of the stream.
fn receive(socket: &mut UnixStream, message: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        let read = socket.read(&mut message[filled..])?;
        filled += read;
        if read == 0 || message[filled - 1] == 0 {
            return Ok(filled);
        }
    }
}
