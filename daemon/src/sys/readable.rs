//! Waiting until a descriptor is readable.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tokio::io::{Interest, unix::AsyncFd};

/// A descriptor that the runtime watches, such as a pidfd.
#[derive(Debug)]
pub struct Readable(AsyncFd<OwnedFd>);

impl Readable {
    /// Starts watching `fd`.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says: `EPERM` for descriptors that are always ready, such as regular files.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: `AsyncFd` asks that `as_raw_fd` names the same open descriptor for as long as it is registered.
        // * `OwnedFd` closes its descriptor only when it is dropped, and the `AsyncFd` owns it until it is dropped itself;
        // * `OwnedFd::as_raw_fd` returns the same number every time;
        // * the field is private and never handed out mutably, so nothing can replace it.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Waits until it is readable.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn wait(&self) -> io::Result<()> {
        self.0.readable().await.map(drop)
    }
    /// Waits until `read` yields something else than [`io::ErrorKind::WouldBlock`], for a descriptor that doesn't block.
    ///
    /// # Errors
    /// What `read` says, or when the runtime is shutting down.
    pub async fn read_with<T>(&self, mut read: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |fd| read(fd.as_fd())).await
    }
}
