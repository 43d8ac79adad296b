//! Waiting on a completion channel without blocking a thread.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    sync::Arc,
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{CompletionChannel, CompletionError, CompletionQueue, completion::Completion};
use crate::errno::Errno;

/// A completion channel in the reactor of the tokio runtime it was made in.
#[derive(Debug)]
pub struct AsyncChannel {
    fd: AsyncFd<Registered>,
}

/// A channel whose fd the reactor watches.
#[derive(Debug)]
struct Registered(Arc<CompletionChannel>);

impl AsRawFd for Registered {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsyncChannel {
    /// Registers the channel with the current runtime.
    ///
    /// # Errors
    ///
    /// [`CompletionError::Operation`] when the reactor can't watch it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn new(channel: &Arc<CompletionChannel>) -> Result<Self, CompletionError> {
        let registered = Registered(channel.clone());
        // SAFETY: the fd belongs to the channel for its whole life, and this value holds the channel.
        let fd = unsafe { AsyncFd::register_with_interest(registered, Interest::READABLE) };
        fd.map(|fd| Self { fd }).map_err(|error| {
            let (_, error) = error.into_parts();
            CompletionError::Operation { operation: "epoll_ctl", source: Errno::from(&error) }
        })
    }

    /// Waits until `queue`, whose events go to this channel, has a completion. Cancelling loses nothing.
    ///
    /// # Errors
    ///
    /// [`CompletionError::Operation`].
    pub async fn wait(
        &self,
        queue: &CompletionQueue,
        completions: &mut Vec<Completion>,
    ) -> Result<(), CompletionError> {
        loop {
            if queue.poll(completions)? > 0 {
                return Ok(());
            }
            queue.arm()?;
            if queue.poll(completions)? > 0 {
                return Ok(());
            }
            let mut ready = self.fd.readable().await.map_err(|error| CompletionError::Operation {
                operation: "epoll_wait",
                source: Errno::from(&error),
            })?;
            if !ready.get_inner().0.take_event()? {
                ready.clear_ready();
            }
        }
    }
}
