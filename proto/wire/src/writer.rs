//! Sending: a message and its descriptors, in as many system calls as the socket wants.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::MAX_FDS;

/// A message on its way out. Dropping it closes the descriptors that have not been sent.
#[derive(Debug)]
pub struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outgoing {
    /// A message of `json`, which must hold no zero byte (JSON text never does), with `fds` beside it.
    ///
    /// # Panics
    /// With more than [`MAX_FDS`] descriptors, or with a zero byte in `json`: both are mistakes of the program.
    pub fn new(mut json: Vec<u8>, fds: Vec<OwnedFd>) -> Self {
        assert!(fds.len() <= MAX_FDS, "{} descriptors in one message", fds.len());
        debug_assert!(!json.contains(&0), "a zero byte inside a message");
        json.push(0);
        Self { bytes: json, sent: 0, fds }
    }

    /// Sends once; `true` when the whole message is gone.
    ///
    /// The descriptors go with the first byte, and are closed here as soon as the kernel has taken them.
    ///
    /// # Errors
    /// What `sendmsg(2)` says; `WouldBlock` and `Interrupted` leave everything as it was.
    pub fn send(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let borrowed: Vec<_> = self.fds.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !borrowed.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&borrowed));
        }
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        let sent = sendmsg(socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)?;
        self.fds.clear();
        self.sent += sent;
        Ok(self.sent == self.bytes.len())
    }
}
