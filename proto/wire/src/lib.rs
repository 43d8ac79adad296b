//! Varlink messages and file descriptors over a Unix stream socket, with every size bounded.
//!
//! A message is the bytes up to a zero byte; descriptors travel beside it (`SCM_RIGHTS`). [`Reader`] and [`Outgoing`]
//! do one system call at a time on whatever socket they are given, so that blocking and asynchronous callers share
//! them: wait for readiness outside, call [`Reader::fill`] or [`Outgoing::send`] inside.
//!
//! **Invariants:** a received descriptor is close-on-exec from the first moment (`MSG_CMSG_CLOEXEC`), belongs to exactly
//! one message, and is closed when nobody takes it. A reader never holds more than [`MAX_MESSAGE`] bytes and one read, nor
//! more than [`MAX_FDS`] descriptors a message.
#![forbid(unsafe_code)]

mod reader;
mod writer;

pub use reader::{Descriptors, Fill, Message, Reader, TooLong};
pub use writer::Outgoing;

/// The longest message, in bytes, without its final zero byte. Lists are paged so that replies stay below it too.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most descriptors that one message may bring; of a message with more, all are closed.
pub const MAX_FDS: usize = 4;
