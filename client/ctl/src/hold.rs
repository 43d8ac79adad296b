//! Waiting until a lease is no longer wanted, or no longer there.

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        stat::{SFlag, fstat},
    },
};
use peermem::{
    Watch,
    proto::{Event, LeaseId},
};

/// SIGINT, SIGTERM and SIGHUP, taken as something to wait for.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// From now on these signals end only what waits for them.
    pub(crate) fn block() -> Result<Self> {
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?))
    }
}

/// Returns when a signal comes, `limit` has passed, or the pipe on standard input is closed.
///
/// # Errors
/// When the daemon ends the lease, or is gone.
pub(crate) fn until_end(
    signals: &Signals,
    mut watch: Watch,
    lease: LeaseId,
    limit: Option<Duration>,
) -> Result<()> {
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let stdin = io::stdin();
    let fds = 2 + usize::from(limit.is_none() && is_pipe(&stdin));
    loop {
        while let Some(event) = watch.try_next()? {
            if let Event::LeaseEnded { lease: ended, reason } = event
                && ended.id == lease
            {
                bail!("lease {lease} has ended: {reason}");
            }
        }
        let mut polled = [
            PollFd::new(signals.0.as_fd(), PollFlags::POLLIN),
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(stdin.as_fd(), PollFlags::POLLIN),
        ];
        let polled = polled.split_at_mut(fds).0;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match poll(polled, left.map_or(PollTimeout::NONE, round_up)) {
            Ok(0) if deadline.is_some_and(|deadline| Instant::now() >= deadline) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
        if ready(0) {
            return Ok(());
        }
        if ready(2) && io::stdin().read(&mut [0; 4096])? == 0 {
            return Ok(());
        }
    }
}

/// In whole milliseconds, never too early; what is longer than poll can wait is asked for again.
fn round_up(left: Duration) -> PollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// Whether the end of standard input means something. A terminal's doesn't (reading it in the background would stop us),
/// and `/dev/null` is at its end from the start.
fn is_pipe(stdin: impl AsFd) -> bool {
    let kind = fstat(stdin).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    matches!(kind, Ok(kind) if kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}
