//! Who may have what: regions, sessions, leases. A state machine without clock, I/O or locks.
//!
//! The shell turns what happens outside into an [`Input`], calls [`Broker::step`] with the time, and carries out the
//! [`Effect`]s in their order. A mapping takes two inputs, because getting the memory is the shell's work:
//!
//! ```text
//!           Map                    Carved(ok)               Renew, Claim
//!   (none) ──────► carving ────────────────────────► active ────────────► active, until later; another owner's
//!     │               │                              │    │
//!     │ refused       │ Carved(failed)               │    │ Revoke, expiry, a new policy
//!     ▼               ▼                              │    ├─────────────────────────► revoked ──► overdue
//!   Answer(error)   Answer(fault)                    │    │   where revocation is       │   its time is over
//!                                                    │    │   advisory                  │            │
//!                               Unmap, Disconnected, │    │ where it is enforced        │ Unmap, Disconnected,
//!                               RegionLost           ▼    ▼                             ▼ RegionLost │
//!                                         Record(LeaseGone), Release, Announce(LeaseEnded) ◄─────────┘
//! ```
//!
//! A lease whose owner or region goes while it is being carved is forgotten at once; the memory is released as soon
//! as the shell reports that it was carved.
//!
//! **A restart.** Whatever a restart must know goes out as a [`Record`] before the answer that depends on it.
//! [`Broker::restore`] takes the records up: leases and registered regions whose process lives *wait*, in the state that
//! they were in, until that process resumes them, dies, or the grace period is over.
//!
//! **Time.** [`Broker::next_deadline`] says when something is due by itself (an expiry, the end of a grace period); the
//! shell then sends [`Input::Tick`]. Every other input brings it about as well.
//!
//! **Invariants** (held after every step, checked by the property tests):
//! * every lease has a region, and a session or a grace period;
//! * a region's leased bytes are the sum of its leases' lengths; leased and missing bytes never exceed a pool's size;
//! * what users hold, and what they hold by a rule, is the sum over their leases;
//! * in a window, every lease lies inside the region;
//! * every ticket is answered exactly once;
//! * every memory that was carved is released once, at the latest when its session and region are gone;
//! * replaying the records gives the state.

mod book;
mod broker;
mod client;
mod delegation;
mod ending;
mod extent;
mod findings;
mod grant;
mod input;
mod limits;
mod listing;
mod permission;
mod record;
mod region;
mod registration;
mod reload;
mod resume;
mod session;
mod timers;

pub use broker::Broker;
pub use client::Client;
pub use delegation::TOKEN_LIFE;
pub use findings::Findings;
pub use input::{Answer, Effect, Input, MemoryId, Placed, Reach, SessionId, Ticket};
pub use limits::{Held, Limits, within};
pub use record::{LeaseRecord, Record, RegionRecord, Remembered};
pub use region::{RegionSpec, Returns, Share};

use peermem_proto::{Initiator, PciAddress, Route};

/// Why there is no route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// No such device on this node.
    UnknownInitiator,
    /// The device can't reach the memory; the sentence says why, and what to do.
    Blocked(String),
}

/// What the core must know about the hardware's topology.
pub trait Routes {
    /// The way from `initiator` to memory of `provider`, or to emulated memory where that is `None`.
    ///
    /// # Errors
    /// [`NoRoute`] when the bytes could not get there.
    fn route(&self, provider: Option<PciAddress>, initiator: &Initiator) -> Result<Route, NoRoute>;
}
