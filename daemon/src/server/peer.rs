//! Who is on the other side: the credentials that the kernel vouches for.

use std::{io, os::fd::OwnedFd};

use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use peermem_proto::Owner;
use rustix::{
    net::sockopt::socket_peercred,
    process::{PidfdFlags, pidfd_open},
};
use tokio::net::UnixStream;

use crate::sys::Readable;

/// A client process.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its credentials when it connected (`SO_PEERCRED`).
    pub(super) owner: Owner,
    /// Readable when the process has died, even if a child still holds the connection open.
    pub(super) death: Option<Readable>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = socket_peercred(stream)?;
        let owner = Owner {
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            pid: credentials.pid.as_raw_nonzero().get().unsigned_abs(),
        };
        // Without a pidfd, only the end of the connection tells that the client has gone.
        let pidfd: Option<OwnedFd> = getsockopt(stream, PeerPidfd)
            .ok()
            // Before kernel 6.5. The process may be gone and its number taken by another, whose death then counts.
            .or_else(|| pidfd_open(credentials.pid, PidfdFlags::NONBLOCK).ok());
        Ok(Self { owner, death: pidfd.and_then(|fd| Readable::new(fd).ok()) })
    }

    /// Waits until the process has died.
    pub(super) async fn died(&self) {
        match &self.death {
            Some(pidfd) if pidfd.wait().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}
