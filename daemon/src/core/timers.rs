//! What happens by itself when its time has come.

use std::collections::BTreeSet;

use peermem_proto::{LeaseId, Moment, Token};

/// Something that will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A lease expires.
    Expiry(LeaseId),
    /// The client of a revoked lease has had time enough.
    Overdue(LeaseId),
    /// A token is good no longer.
    Token(Token),
    /// Clients have had time enough to come back after a restart.
    Resume,
}

/// All that will happen, and when.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Moment, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Moment, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: Moment, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Moment> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes out one that is due at `now`.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Timer> {
        self.0.first().filter(|(at, _)| *at <= now)?;
        self.0.pop_first().map(|(_, timer)| timer)
    }
}
