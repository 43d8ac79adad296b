//! What the daemon says has happened.

use std::{os::fd::AsFd, time::Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use peermem::{Client, Watch};
use peermem_proto::{Event, Lease, LeaseEnd, LeaseId, LeaseState, Revoked};

use crate::wait::soon;

/// Everything that happens from now on.
#[derive(Debug)]
pub struct Events(Watch);

impl Events {
    /// Begins to listen, on a connection of its own.
    pub fn of(client: &Client) -> Self {
        Self(client.watch().unwrap())
    }

    /// Waits for the first event that `wanted` has an answer to, past all others.
    pub fn find<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let deadline = soon();
        loop {
            while let Some(event) = self.0.try_next().unwrap() {
                if let Some(answer) = wanted(event) {
                    return answer;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no event says that {what}");
            let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            poll(&mut polled, PollTimeout::try_from(left).unwrap()).unwrap();
        }
    }

    /// Waits for the revocation of a lease, and says why it came.
    pub fn revocation_of(&mut self, id: LeaseId) -> Revoked {
        self.find(&format!("lease {id} is revoked"), |event| match event {
            Event::LeaseRevoked { lease: Lease { id: revoked, state, .. } } if revoked == id => match state {
                LeaseState::Revoked { reason, .. } => Some(reason),
                LeaseState::Active {} => panic!("lease {id} is revoked and active"),
            },
            _ => None,
        })
    }

    /// Waits for the end of a lease, and says why it came.
    pub fn end_of(&mut self, lease: LeaseId) -> LeaseEnd {
        self.find(&format!("lease {lease} has ended"), |event| match event {
            Event::LeaseEnded { lease: ended, reason } if ended.id == lease => Some(reason),
            _ => None,
        })
    }
}
