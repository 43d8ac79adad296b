//! The stream of events, waited for by blocking.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use peermem_proto::{Event, call};
use peermem_wire::Message;

use super::{
    CallFailed, ConnectError, DEFAULT_TIMEOUT, Trouble, exchange::Exchange, holdings::Holdings, link::Link,
};

/// Events as they happen, on a connection of its own. The iterator waits for the next one without a time limit; after an
/// error it ends, and with the daemon: watch again once it is back, and list what is there, for what happened in between
/// isn't told.
///
/// What it tells of the client's own leases the client has learned by then: see [`Lease::is_revoked`](crate::Lease::is_revoked).
///
/// Its descriptor becomes readable when an event (or the end) has come, for callers that wait for several things.
#[derive(Debug)]
pub struct Watch {
    link: Link,
    ears: Ears,
    ended: bool,
}

/// The client on whose behalf a stream of events is read.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) holdings: Arc<Holdings>,
    /// The daemon's table of leases that the events are about.
    pub(super) instance: String,
}

impl Ears {
    /// The event that a message tells.
    pub(super) fn hear(&self, exchange: &mut Exchange, message: Message) -> Result<Event, CallFailed> {
        let (reply, _) = exchange.finish::<call::Watch>(message, true, 0)?;
        let Some(event) = reply.event else { return Err(exchange.lose(Trouble::Unsolicited).into()) };
        self.holdings.heed(&self.instance, &event);
        Ok(event)
    }
}

impl Watch {
    /// Returns once the daemon has said that the stream has begun.
    pub(super) fn begin(mut link: Link, ears: Ears) -> Result<Self, ConnectError> {
        let begun = link.exchange.begin(&call::Watch {}, true, Vec::new()).and_then(|()| {
            let message = link.receive(Some(DEFAULT_TIMEOUT))?;
            link.exchange.finish::<call::Watch>(message, true, 0)
        });
        match begun {
            Ok(_) => Ok(Self { link, ears, ended: false }),
            Err(source) => Err(ConnectError::Greeting { path: link.exchange.socket().to_owned(), source }),
        }
    }

    /// The next event if it has come, without waiting.
    ///
    /// # Errors
    /// [`CallFailed`]; the stream has ended then.
    pub fn try_next(&mut self) -> Result<Option<Event>, CallFailed> {
        if self.ended {
            let because = "the stream of events has ended".to_owned();
            return Err(self.link.exchange.lose(Trouble::GivenUp { because }).into());
        }
        let received = self.link.try_receive().map_err(CallFailed::from);
        let next = received
            .and_then(|message| message.map(|it| self.ears.hear(&mut self.link.exchange, it)).transpose());
        self.ended |= next.is_err();
        next
    }
}

impl Iterator for Watch {
    type Item = Result<Event, CallFailed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let received = self.link.receive(None).map_err(CallFailed::from);
        let next = received.and_then(|message| self.ears.hear(&mut self.link.exchange, message));
        self.ended = next.is_err();
        Some(next)
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
