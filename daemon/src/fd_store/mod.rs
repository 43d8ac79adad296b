//! systemd's store for descriptors: what is put there comes back at the next start, whatever ended this one.
//!
//! The service needs `FileDescriptorStoreMax=`; see `sd_pid_notify_with_fds(3)` and `sd_listen_fds_with_names(3)`.

use std::{
    env, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    process,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sd_notify::NotifyState;

use crate::sys::take_inherited;

mod name;
mod passed;

/// How long systemd may take to answer.
const LONGEST_WAIT: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

pub use name::{FdName, FdNameError};

/// The way to the store. Without systemd there is none, and nothing is stored.
#[derive(Debug, Clone)]
pub struct FdStore {
    available: bool,
    capacity: Option<usize>,
}

/// The descriptors that systemd passed at start, each close-on-exec. Several may have one name.
#[derive(Debug, Default)]
pub struct Passed {
    /// What was in the store.
    pub stored: Vec<(FdName, OwnedFd)>,
    /// The sockets of socket units, by their units' names, such as `peermemd.socket`.
    pub sockets: Vec<(String, OwnedFd)>,
}

impl FdStore {
    /// Finds the way to the store, and takes what systemd passed. A second call gets an error where the first got something.
    ///
    /// # Errors
    /// When the environment and the open descriptors don't fit together: systemd didn't start this process as they say.
    pub fn from_environment() -> io::Result<(Self, Passed)> {
        let variable = |name: &str| env::var(name).ok();
        let mut passed = Passed::default();
        for (number, name) in passed::listed(process::id(), variable)? {
            let fd = take_inherited(number).map_err(|error| {
                io::Error::new(error.kind(), format!("descriptor {number}, {name:?}: {error}"))
            })?;
            match name.parse() {
                Ok(name) => passed.stored.push((name, fd)),
                Err(FdNameError::SocketUnit) => passed.sockets.push((name, fd)),
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        let store = Self {
            available: env::var_os("NOTIFY_SOCKET").is_some(),
            capacity: variable("FDSTORE").and_then(|count| count.parse().ok()),
        };
        Ok((store, passed))
    }

    /// Whether systemd listens. Without it, [`put`](Self::put) and [`remove`](Self::remove) do nothing.
    pub fn is_available(&self) -> bool {
        self.available
    }

    /// How many descriptors the store takes; what is put beyond that is closed without a word. `None` where systemd doesn't
    /// say: before version 254, or because the service has no store.
    pub fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// Stores a copy of `fd`. systemd drops it when the unit is stopped, unless `FileDescriptorStorePreserve=yes`.
    ///
    /// # Errors
    /// When systemd can't be reached. Whether it took the descriptor, it doesn't say.
    pub fn put(&self, name: &FdName, fd: BorrowedFd<'_>) -> io::Result<()> {
        // systemd would otherwise drop what polls as hung up, and it isn't systemd's to judge what that means for a device.
        let state =
            [NotifyState::FdStore, NotifyState::FdName(name.as_str()), NotifyState::Custom("FDPOLL=0")];
        sd_notify::notify_with_fds(&state, &[fd])
    }

    /// Drops all that is stored by this name.
    ///
    /// # Errors
    /// When systemd can't be reached.
    pub fn remove(&self, name: &FdName) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name.as_str())])
    }

    /// Waits until systemd has done all that it was told so far: `BARRIER=1` of `sd_notify(3)`. That takes about a
    /// millisecond, and blocks the thread meanwhile.
    ///
    /// # Errors
    /// `TimedOut` after some seconds; when systemd can't be reached.
    pub fn settle(&self) -> io::Result<()> {
        if !self.available {
            return Ok(());
        }
        let (ours, theirs) = io::pipe()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[theirs.as_fd()])?;
        drop(theirs);
        // Hung up when systemd has closed the other end.
        let mut hangup = [PollFd::new(&ours, PollFlags::empty())];
        match poll(&mut hangup, Some(&LONGEST_WAIT))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}
