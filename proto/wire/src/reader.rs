//! Receiving: bytes and descriptors in, whole messages out.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, OwnedFd},
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use thiserror::Error;

use crate::{MAX_FDS, MAX_MESSAGE};

/// How much one system call reads at most. Nearly every message is shorter than this.
const READ: usize = 4 * 1024;

thread_local! {
    /// Where system calls read to: it would have to be zeroed for each otherwise.
    static CHUNK: RefCell<[u8; READ]> = const { RefCell::new([0; READ]) };
}

/// The kernel's own bound on descriptors in one control message (`SCM_MAX_FD`, include/net/scm.h). With room for
/// all of them, none is lost for want of room.
const SCM_MAX_FD: usize = 253;

/// The descriptors that came with one message.
#[derive(Debug, Default)]
pub struct Descriptors {
    kept: Vec<OwnedFd>,
    count: usize,
    lost: bool,
}

impl Descriptors {
    /// How many came, those that were closed at once included.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether the kernel dropped some before they arrived, as it does when this process has no free descriptor.
    pub fn lost(&self) -> bool {
        self.lost
    }

    /// Takes them, if exactly `expected` came; otherwise all are closed and their number is the error.
    ///
    /// # Errors
    /// The number that came.
    pub fn take(self, expected: usize) -> Result<Vec<OwnedFd>, usize> {
        if self.count == expected && self.kept.len() == expected && !self.lost {
            Ok(self.kept)
        } else {
            Err(self.count)
        }
    }

    fn push(&mut self, fd: OwnedFd) {
        self.count += 1;
        if self.count <= MAX_FDS {
            self.kept.push(fd);
        } else {
            self.kept.clear();
        }
    }

    fn append(&mut self, other: Self) {
        self.count += other.count;
        self.lost |= other.lost;
        self.kept.extend(other.kept);
        if self.count > MAX_FDS {
            self.kept.clear();
        }
    }
}

/// One message: its bytes without the final zero byte, and what came with it.
#[derive(Debug)]
pub struct Message {
    /// The JSON text.
    pub bytes: Vec<u8>,
    /// Its descriptors.
    pub fds: Descriptors,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fill {
    /// More bytes.
    Data,
    /// The other side has closed; nothing more will come.
    End,
}

/// A message without an end inside [`MAX_MESSAGE`] bytes. The stream can't be trusted after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a message is longer than {MAX_MESSAGE} bytes")]
pub struct TooLong;

/// Collects bytes and descriptors until they make whole messages.
///
/// Call [`Reader::next`] until it gives `None`, then [`Reader::fill`].
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that hold no zero byte.
    scanned: usize,
    /// Came with earlier reads: they belong to the message at the front.
    carried: Descriptors,
    /// Came with the latest read: they belong to the message that its last byte belongs to. The kernel ends a read
    /// after a segment that brought descriptors (unix_stream_read_generic in net/unix/af_unix.c), and a sender gives
    /// a message with descriptors a segment of its own.
    latest: Descriptors,
}

impl Reader {
    /// An empty reader.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the front of a message is waiting for its rest.
    pub fn has_partial(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Reads once from `socket`.
    ///
    /// # Errors
    /// What `recvmsg(2)` says; `WouldBlock` and `Interrupted` leave everything as it was.
    pub fn fill(&mut self, socket: impl AsFd) -> io::Result<Fill> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SCM_MAX_FD))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let (bytes, flags) = CHUNK.with_borrow_mut(|chunk| {
            let received =
                recvmsg(socket, &mut [IoSliceMut::new(chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
            self.buffer.extend_from_slice(chunk.get(..received.bytes).unwrap_or_default());
            io::Result::Ok((received.bytes, received.flags))
        })?;

        self.carried.append(std::mem::take(&mut self.latest));
        self.latest.lost = flags.contains(ReturnFlags::CTRUNC);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                fds.for_each(|fd| self.latest.push(fd));
            }
        }
        Ok(if bytes == 0 { Fill::End } else { Fill::Data })
    }

    /// The next whole message, or `None` when more must be read first.
    ///
    /// # Errors
    /// [`TooLong`]: close the connection.
    // Not an Iterator: `None` means "not yet" here, not "no more".
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Message>, TooLong> {
        let fresh = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(found) = fresh.iter().position(|byte| *byte == 0) else {
            self.scanned = self.buffer.len();
            return if self.scanned > MAX_MESSAGE { Err(TooLong) } else { Ok(None) };
        };
        let end = self.scanned + found;
        if end > MAX_MESSAGE {
            return Err(TooLong);
        }
        let rest = self.buffer.split_off(end + 1);
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        bytes.truncate(end);
        self.scanned = 0;
        let mut fds = std::mem::take(&mut self.carried);
        if self.buffer.is_empty() {
            fds.append(std::mem::take(&mut self.latest));
        }
        Ok(Some(Message { bytes, fds }))
    }
}
