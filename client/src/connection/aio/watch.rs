//! The stream of events, waited for by yielding.

use peermem_proto::{Event, call};

use super::link::Link;
use crate::connection::{CallFailed, ConnectError};

/// Events as they happen, on a connection of its own.
#[derive(Debug)]
pub struct Watch {
    link: Link,
    ended: bool,
}

impl Watch {
    /// Returns once the daemon has said that the stream has begun.
    pub(super) async fn begin(mut link: Link) -> Result<Self, ConnectError> {
        match Self::subscribe(&mut link).await {
            Ok(()) => Ok(Self { link, ended: false }),
            Err(source) => Err(ConnectError::Greeting { path: link.exchange.socket().to_owned(), source }),
        }
    }

    async fn subscribe(link: &mut Link) -> Result<(), CallFailed> {
        link.exchange.begin(&call::Watch {}, true, Vec::new())?;
        let message = link.receive_in_time().await?;
        link.exchange.finish::<call::Watch>(message, true, 0).map(|_| ())
    }

    /// The next event, waited for without a time limit. After an error, `None`. Dropping the future loses no event.
    pub async fn next(&mut self) -> Option<Result<Event, CallFailed>> {
        if self.ended {
            return None;
        }
        let next = self.receive().await.transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }

    async fn receive(&mut self) -> Result<Option<Event>, CallFailed> {
        let message = self.link.receive().await?;
        let (reply, _) = self.link.exchange.finish::<call::Watch>(message, true, 0)?;
        Ok(reply.event)
    }
}
