//! The connection to peermemd.
//!
//! [`Client`] waits by blocking, [`aio::Client`](crate::aio::Client) by yielding; what they say and what they accept is
//! the same code: `exchange` holds one call's progress and never waits.
//!
//! **Invariants:** one call at a time is under way on a connection. After anything that leaves in doubt which reply
//! belongs to which call (a time-out, a torn message, a call dropped half-way) the connection answers every further
//! call with [`Trouble::GivenUp`] and never hands out a reply that might be another call's.

#[cfg(feature = "async")]
pub mod aio;
mod blocking;
mod error;
mod exchange;
mod held;
mod link;
mod pages;
mod path;
mod region;
mod watch;

use std::time::Duration;

pub use blocking::Client;
pub use error::{CallFailed, ConnectError, ConnectionError, Trouble};
pub use held::Connection;
pub use region::RegisteredRegion;
pub use watch::Watch;

/// How long a call may take unless told otherwise: far beyond what the daemon needs, short of what people wait.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
