//! What becomes of a lease that is held: events where there are any, else questions.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use anyhow::Result;
use peermem::{
    CallFailed, Client, ConnectError, Watch,
    proto::{Event, Lease, LeaseState, Refusal, varlink::CallError},
};

use crate::failure::LeaseOver;

/// How often to ask where no events come.
const ASK: Duration = Duration::from_secs(5);
/// How often to look whether the daemon is back.
const LOOK: Duration = Duration::from_millis(200);

/// Where the news come from.
#[derive(Debug)]
enum Source {
    Events(Box<Watch>),
    /// The policy doesn't let this user watch.
    Questions,
    /// The daemon is away.
    Nowhere {
        since: Instant,
    },
}

/// Hears what becomes of leases.
#[derive(Debug)]
pub(super) struct News<'a> {
    client: &'a Client,
    source: Source,
    /// How long the daemon may be away.
    patience: Duration,
}

/// What became of a lease that isn't over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is held.
    Held,
    /// Another process has claimed it.
    PassedOn,
}

impl<'a> News<'a> {
    /// Nothing that happens from now on is missed.
    pub(super) fn open(client: &'a Client, patience: Duration) -> Result<Self, ConnectError> {
        Ok(Self { client, source: open(client)?, patience })
    }

    /// Becomes readable with news.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Events(watch) => Some(watch.as_fd()),
            Source::Questions | Source::Nowhere { .. } => None,
        }
    }

    /// How long to wait before looking at the news again, without being woken.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self.source {
            Source::Events(_) => None,
            Source::Questions => Some(ASK),
            Source::Nowhere { .. } => Some(LOOK),
        }
    }

    /// Whether the daemon is there, as far as one knows.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self.source, Source::Nowhere { .. })
    }

    /// What has become of a lease since it was `held`.
    ///
    /// # Errors
    /// [`LeaseOver`]; or the daemon is away for too long.
    pub(super) fn of(&mut self, held: &Lease) -> Result<Told> {
        match &mut self.source {
            Source::Events(watch) => loop {
                match watch.try_next() {
                    Ok(Some(event)) => match judge_event(&event, held)? {
                        Told::Held => {}
                        Told::PassedOn => return Ok(Told::PassedOn),
                    },
                    Ok(None) => return Ok(Told::Held),
                    // The daemon has gone, or has dropped events: begin again.
                    Err(_) => break self.source = Source::Nowhere { since: Instant::now() },
                }
            },
            Source::Questions => return self.ask(held),
            Source::Nowhere { .. } => {}
        }
        let Source::Nowhere { since } = self.source else { return Ok(Told::Held) };
        match open(self.client) {
            Ok(source) => {
                self.source = source;
                self.ask(held)
            }
            Err(error) if since.elapsed() >= self.patience => Err(error.into()),
            Err(_) => Ok(Told::Held),
        }
    }

    fn ask(&mut self, held: &Lease) -> Result<Told> {
        match self.client.leases() {
            Ok(leases) => judge(leases.iter().find(|lease| lease.id == held.id), held),
            Err(CallFailed::Lost(_)) => {
                self.source = Source::Nowhere { since: Instant::now() };
                Ok(Told::Held)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn open(client: &Client) -> Result<Source, ConnectError> {
    match client.watch() {
        Ok(watch) => Ok(Source::Events(Box::new(watch))),
        Err(ConnectError::Greeting {
            source: CallFailed::Answered(CallError::Refusal(Refusal::NotAllowed { .. })),
            ..
        }) => Ok(Source::Questions),
        Err(error) => Err(error),
    }
}

fn judge_event(event: &Event, held: &Lease) -> Result<Told> {
    match event {
        Event::LeaseEnded { lease, reason } if lease.id == held.id => Err(over(held, reason)),
        Event::LeaseRevoked { lease } | Event::LeaseDelegated { lease, .. } if lease.id == held.id => {
            judge(Some(lease), held)
        }
        _ => Ok(Told::Held),
    }
}

fn judge(found: Option<&Lease>, held: &Lease) -> Result<Told> {
    match found {
        None => Err(over(held, &"the daemon doesn't have it any more")),
        Some(Lease { state: state @ LeaseState::Revoked { .. }, .. }) => Err(over(held, state)),
        // This process as the daemon sees it, which may call it by another number than it calls itself.
        Some(lease) if lease.owner != held.owner => Ok(Told::PassedOn),
        Some(_) => Ok(Told::Held),
    }
}

/// All that this process can do is give the lease back.
fn over(held: &Lease, why: &impl std::fmt::Display) -> anyhow::Error {
    let why = format!("{why}. Whoever uses its memory must let go of it");
    LeaseOver { lease: held.id, why }.into()
}
