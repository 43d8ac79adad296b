//! The stream of events, waited for by blocking.

use std::os::fd::{AsFd, BorrowedFd};

use peermem_proto::{Event, call};

use super::{CallFailed, ConnectError, link::Link};

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

    fn receive(&mut self) -> Result<Option<Event>, CallFailed> {
        let message = self.link.receive(None)?;
        let (reply, _) = self.link.exchange.finish::<call::Watch>(message, true, 0)?;
        Ok(reply.event)
    }
}

impl Iterator for Watch {
    type Item = Result<Event, CallFailed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.receive().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.link.as_fd()
    }
}
