//! Who is on the other side: the credentials that the kernel vouches for.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{
    getsockopt,
    sockopt::{PeerCredentials, PeerPidfd},
};
use peermem_proto::Owner;
use rustix::{
    fs::{fstat, fstatfs},
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::net::UnixStream;

use crate::{
    core::Client,
    sys::{Readable, peer_groups},
};

/// `PID_FS_MAGIC` (include/uapi/linux/magic.h): what fstatfs(2) says of a pidfd where each process has an inode of its own.
const PID_FS_MAGIC: u64 = 0x5049_4446;

/// A client process.
#[derive(Debug)]
pub(super) struct Peer {
    /// Its credentials when it connected (`SO_PEERCRED`, `SO_PEERGROUPS`), and which process it is.
    pub(super) client: Client,
    /// Readable when the process has died, even if a child still holds the connection open.
    death: Option<Readable>,
}

impl Peer {
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        // Of a process of another PID namespace, the kernel tells no number: 0.
        let owner =
            Owner { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid().unsigned_abs() };
        let mut gids = peer_groups(stream.as_fd())?;
        if !gids.contains(&owner.gid) {
            gids.push(owner.gid);
        }
        // Without a pidfd, only the end of the connection tells that the client has gone.
        let pidfd: Option<OwnedFd> = getsockopt(stream, PeerPidfd)
            .ok()
            // Before kernel 6.5. The process may be gone and its number taken by another, whose death then counts.
            .or_else(|| pidfd_open(Pid::from_raw(credentials.pid())?, PidfdFlags::NONBLOCK).ok());
        let process = pidfd.as_ref().and_then(inode);
        let death = pidfd.and_then(|fd| Readable::new(fd).ok());
        Ok(Self { client: Client { owner, gids, process }, death })
    }

    /// Waits until the process has died.
    pub(super) async fn died(&self) {
        match &self.death {
            Some(pidfd) if pidfd.wait().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }
}

/// The inode of a pidfd, where it tells one process from every other of this boot.
fn inode(pidfd: &OwnedFd) -> Option<u64> {
    let is_pidfs = fstatfs(pidfd).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(PID_FS_MAGIC));
    is_pidfs.then(|| fstat(pidfd).ok().map(|stat| stat.st_ino)).flatten()
}

/// A pidfd of the process that `client` was before a restart, if it still lives. One without a number can't be found, and
/// counts as gone.
pub(super) fn find(client: &Client) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(client.owner.pid).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    (inode(&pidfd) == client.process).then_some(pidfd)
}
