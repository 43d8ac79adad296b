//! Being told to end.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use anyhow::Result;
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
    stat::{SFlag, fstat},
};

/// SIGINT, SIGTERM and SIGHUP, taken as something to wait for.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on these signals end only what waits for them. Before other threads are started, so that none gets them.
    pub(crate) fn block() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether the end of standard input means something. A terminal's doesn't (reading it in the background would stop us),
/// and `/dev/null` is at its end from the start.
pub(super) fn stdin_is_pipe() -> bool {
    let kind = fstat(io::stdin()).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    matches!(kind, Ok(kind) if kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}
