//! The stream of events, waited for by yielding.

use peermem_proto::{Event, call};

use super::link::Link;
use crate::connection::{CallFailed, ConnectError, DEFAULT_TIMEOUT, transport::Transport as _, watch::Ears};

/// Events as they happen, on a connection of its own, which ends with the daemon: watch again once it is back, and list
/// what is there, for what happened in between isn't told.
///
/// What it tells of the client's own leases the client has learned by then: see [`Lease::is_revoked`](crate::Lease::is_revoked).
#[derive(Debug)]
pub struct Watch {
    link: Link,
    ears: Ears,
    ended: bool,
}

impl Watch {
    /// Returns once the daemon has said that the stream has begun.
    pub(super) async fn begin(mut link: Link, ears: Ears) -> Result<Self, ConnectError> {
        match Self::subscribe(&mut link).await {
            Ok(()) => Ok(Self { link, ears, ended: false }),
            Err(source) => Err(ConnectError::Greeting { path: link.exchange.socket().to_owned(), source }),
        }
    }

    async fn subscribe(link: &mut Link) -> Result<(), CallFailed> {
        link.exchange.begin(&call::Watch {}, true, Vec::new())?;
        let message = link.receive_within(DEFAULT_TIMEOUT).await?;
        link.exchange.finish::<call::Watch>(message, true, 0).map(|_| ())
    }

    /// The next event, waited for without a time limit. After an error, `None`. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, CallFailed>> {
        if self.ended {
            return None;
        }
        let received = self.link.receive().await.map_err(CallFailed::from);
        let next = received.and_then(|message| self.ears.hear(&mut self.link.exchange, message));
        self.ended = next.is_err();
        Some(next)
    }
}
