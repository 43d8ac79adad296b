//! The connection to peermemd.
//!
//! [`Client`] waits by blocking, [`aio::Client`](crate::aio::Client) by yielding; what they say and what they accept is
//! the same code: `exchange` holds one call's progress and never waits.
//!
//! `line` is a connection that comes back: what to do when the daemon goes away, over a `transport` that blocks or yields.
//!
//! **Invariants:**
//! * One call at a time is under way on a connection: the lock of the `Line` is held from a call's first byte to the last
//!   of its reply, and by whoever reconnects.
//! * After anything that leaves in doubt which reply belongs to which call (a time-out, a malformed reply, a call dropped
//!   half-way) the connection answers every further call with [`Trouble::GivenUp`] and never hands out a reply that might
//!   be another call's. It isn't replaced: the daemon would take it for the client's end, and end what hangs on it.
//! * Only a hang-up replaces the connection: its socket has nothing more to say, and each socket has a reader of its own.
//! * On a new connection nothing comes before `Hello` and `Resume`, and a call about a lease or a region is made only
//!   after a look whether that was lost: a number of another table of leases never goes over the wire.
//! * Whoever holds the lock of a `Line` takes that of the `Holdings` inside it, never the other way round, and neither is
//!   held while a lease is dropped.
//! * The watcher (`guard`) holds a client only while it makes one attempt to come back. Nobody waits for the watcher.

#[cfg(feature = "async")]
pub mod aio;
mod blocking;
mod error;
mod exchange;
mod guard;
mod held;
mod holdings;
mod line;
mod link;
mod pages;
mod path;
mod region;
mod request;
mod standing;
mod transport;
mod watch;

use std::time::Duration;

pub use blocking::Client;
pub use error::{CallFailed, ConnectError, ConnectionError, Trouble};
pub use held::Connection;
pub use holdings::Holding;
pub(crate) use holdings::Kept;
pub(crate) use line::Granted;
pub use region::RegisteredRegion;
pub(crate) use request::Request;
pub(crate) use standing::{Dependent, Fall, Standing};
pub use watch::Watch;

/// How long a call may take, and how long one waits for a daemon that went away, unless told otherwise: far beyond what the
/// daemon needs, short of what people wait.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
