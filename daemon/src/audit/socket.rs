//! Datagrams to journald.

use std::{
    fs::File,
    io::{self, Write},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::net::UnixDatagram},
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create},
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr},
};

/// How long a journal that is busy may keep the daemon waiting, which serves nobody meanwhile.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// The sending end.
#[derive(Debug)]
pub(super) struct Socket(UnixDatagram);

impl Socket {
    pub(super) fn new() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Sends an entry to whoever listens at `path` now. Without `patience`, only if there is room at once.
    pub(super) fn send(&self, entry: &[u8], path: &Path, patience: bool) -> io::Result<()> {
        self.0.set_nonblocking(!patience)?;
        match self.0.send_to(entry, path) {
            // More than a datagram holds.
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => self.send_in_memfd(entry, path),
            sent => sent.map(|_| ()),
        }
    }

    fn send_in_memfd(&self, entry: &[u8], path: &Path) -> io::Result<()> {
        let memfd = memfd_create("peermemd-audit", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(memfd);
        file.write_all(entry)?;
        // journald maps it, and takes only what can't change any more.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let fds = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg_addr(&self.0, &SocketAddrUnix::new(path)?, &[], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}
