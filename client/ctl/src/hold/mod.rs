//! Holding a lease until it is no longer wanted, or no longer there.

mod news;
mod signals;

use std::{
    io::{self, Read},
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use peermem::{
    CallFailed, Client, Lease,
    proto::{Moment, Refusal, varlink::CallError},
};

use self::news::{News, Told};
pub(crate) use self::signals::Signals;
use crate::{cli, time};

/// How soon a renewal that a stopping daemon has refused is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a hold waits for. Made before the lease, so that no signal and no event falls in between.
#[derive(Debug)]
pub(crate) struct Hold<'a> {
    signals: Signals,
    news: News<'a>,
    args: cli::Hold,
    /// Whether the end of standard input ends the hold.
    until_stdin_ends: bool,
}

impl<'a> Hold<'a> {
    pub(crate) fn prepare(client: &'a Client, args: cli::Hold) -> Result<Self> {
        let signals = Signals::block()?;
        let news = News::open(client, Duration::from_secs(args.patience))?;
        // The waiting is done here, where signals are heard.
        client.set_patience(Duration::ZERO);
        Ok(Self { signals, news, args, until_stdin_ends: args.secs.is_none() && signals::stdin_is_pipe() })
    }

    /// Holds whatever standard input does.
    pub(crate) fn ignoring_stdin(self) -> Self {
        Self { until_stdin_ends: false, ..self }
    }

    /// For how long, as people read it.
    pub(crate) fn in_words(&self) -> String {
        match self.args.secs {
            Some(secs) => format!("held for {secs} s"),
            None => "held until Ctrl-C".to_owned(),
        }
    }

    /// Holds the lease until it is no longer wanted, then gives it back. Renews it for `lease_secs` at half its time.
    ///
    /// # Errors
    /// When the lease is over, or the daemon is gone.
    pub(crate) fn hold(mut self, lease: Lease, lease_secs: Option<u64>) -> Result<()> {
        let limit = self.args.secs.map(|secs| time::now().after(Duration::from_secs(secs)));
        // However the hold fails, dropping the lease gives back what is still there.
        match self.wait(&lease, lease_secs, limit)? {
            Told::Held => lease.unmap().context("can't give the lease back"),
            Told::PassedOn => Ok(()),
        }
    }

    /// Holds the lease until somebody has claimed it, or `limit`; says whether that happened.
    ///
    /// # Errors
    /// As [`Hold::hold`].
    pub(crate) fn until_claimed(
        mut self,
        lease: &Lease,
        lease_secs: Option<u64>,
        limit: Duration,
    ) -> Result<bool> {
        let limit = time::now().after(limit);
        Ok(self.wait(lease, lease_secs, Some(limit))? == Told::PassedOn)
    }

    /// Returns when a signal comes, `limit` has passed, standard input ends, or the lease is somebody else's.
    fn wait(&mut self, lease: &Lease, lease_secs: Option<u64>, limit: Option<Moment>) -> Result<Told> {
        let mut renewal = self.next_renewal(lease);
        loop {
            if self.news.of(&lease.info())? == Told::PassedOn {
                return Ok(Told::PassedOn);
            }
            let now = time::now();
            if limit.is_some_and(|limit| limit <= now) {
                return Ok(Told::Held);
            }
            if renewal.is_some_and(|at| at <= now) && self.news.is_there() {
                renewal =
                    if renew(lease, lease_secs)? { self.next_renewal(lease) } else { Some(now.after(AGAIN)) };
            }
            let renewal = renewal.filter(|_| self.news.is_there());
            let left = [limit, renewal].into_iter().flatten().map(|at| at.since(now));
            if self.sleep(left.chain(self.news.pause()).min())? {
                return Ok(Told::Held);
            }
        }
    }

    /// At half the time that is left; never for a lease without an end, or where that isn't wanted.
    fn next_renewal(&self, lease: &Lease) -> Option<Moment> {
        let expires_at = lease.info().expires_at.filter(|_| !self.args.no_renew)?;
        let now = time::now();
        Some(now.after(expires_at.since(now) / 2))
    }

    /// Sleeps until there is something to look at; `true` when the hold is to end.
    fn sleep(&self, left: Option<Duration>) -> Result<bool> {
        let stdin = io::stdin();
        let signals = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let mut polled = vec![signals];
        let input = self.until_stdin_ends.then(|| {
            polled.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            polled.len() - 1
        });
        polled.extend(self.news.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut polled, left.map_or(PollTimeout::NONE, round_up)) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| polled.get(at).and_then(PollFd::any).unwrap_or(false);
        Ok(is_ready(0) || input.is_some_and(is_ready) && io::stdin().read(&mut [0; 4096])? == 0)
    }
}

/// Renews the lease; `false` where that must be tried again.
///
/// # Errors
/// When the daemon refuses.
fn renew(lease: &Lease, secs: Option<u64>) -> Result<bool> {
    match lease.renew(secs) {
        Ok(()) => Ok(true),
        // The news will tell what became of the lease, or of the daemon.
        Err(CallFailed::Answered(CallError::Refusal(
            Refusal::Draining {} | Refusal::LeaseRevoked { .. },
        )))
        | Err(CallFailed::Lost(_)) => Ok(false),
        Err(error) => Err(error).context("can't renew the lease"),
    }
}

/// In whole milliseconds, never too early; what is longer than poll can wait is asked for again.
fn round_up(left: Duration) -> PollTimeout {
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
