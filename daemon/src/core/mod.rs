//! Who may have what: regions, sessions, leases. A state machine without clock, I/O or locks.
//!
//! The shell turns what happens outside into an [`Input`], calls [`Broker::step`], and carries out the [`Effect`]s
//! in their order. A mapping takes two inputs, because carving memory is the shell's work:
//!
//! ```text
//!            Map                      Carved(ok)
//!   (none) ───────► Carving ───────────────────────► Active
//!     │               │                                │
//!     │ refused       │ Carved(failed)                 │ Unmap, Disconnected, RegionLost
//!     ▼               ▼                                ▼
//!   Answer(error)   Answer(fault)                    Release, Announce(LeaseEnded)
//! ```
//!
//! A lease whose owner or region goes while it is being carved is forgotten at once; the memory is released as soon
//! as the shell reports that it was carved.
//!
//! **Invariants** (held after every step, checked by the property tests):
//! * every lease belongs to a session and a region that exist;
//! * a region's leased bytes are the sum of its leases' lengths, and never exceed its size;
//! * in a window, every lease lies inside the region;
//! * every ticket is answered exactly once;
//! * every memory that was carved is released once, at the latest when its session and region are gone.

mod broker;
mod extent;
mod findings;
mod input;
mod listing;
mod region;
mod session;

pub use broker::Broker;
pub use input::{Answer, Effect, Input, SessionId, Ticket};
pub use region::RegionSpec;
pub use session::Limits;

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
