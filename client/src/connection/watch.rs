//! The stream of events, waited for by blocking.

use std::os::fd::{AsFd, BorrowedFd};

use peermem_proto::{Event, call};
use peermem_wire::Message;

use super::{CallFailed, ConnectError, Trouble, link::Link};

/// Events as they happen, on a connection of its own. The iterator waits for the next one without a time limit; after an
/// error it ends.
///
/// Its descriptor becomes readable when an event (or the end) has come, for callers that wait for several things.
#[derive(Debug)]
pub struct Watch {
    link: Link,
    ended: bool,
}

impl Watch {
    /// Returns once the daemon has said that the stream has begun.
    pub(super) fn begin(mut link: Link) -> Result<Self, ConnectError> {
        let begun = link.exchange.begin(&call::Watch {}, true, Vec::new()).and_then(|()| {
            let timeout = link.timeout;
            let message = link.receive(Some(timeout))?;
            link.exchange.finish::<call::Watch>(message, true, 0)
        });
        match begun {
            Ok(_) => Ok(Self { link, ended: false }),
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
        let next = self.link.try_receive().map_err(CallFailed::from).and_then(|message| match message {
            Some(message) => self.open(message),
            None => Ok(None),
        });
        self.ended |= next.is_err();
        next
    }

    fn open(&mut self, message: Message) -> Result<Option<Event>, CallFailed> {
        let (reply, _) = self.link.exchange.finish::<call::Watch>(message, true, 0)?;
        if reply.event.is_none() {
            return Err(self.link.exchange.lose(Trouble::Unsolicited).into());
        }
        Ok(reply.event)
    }
}

impl Iterator for Watch {
    type Item = Result<Event, CallFailed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let received = self.link.receive(None).map_err(CallFailed::from);
        let next = received.and_then(|message| self.open(message)).transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
