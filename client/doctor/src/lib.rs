//! What stands between device memory and the devices that want it, and what mends it.
//!
//! ```text
//! Facts::gather(&Roots, &Asked)    a look at the machine; what can't be seen is a fact as well
//! check::all(&facts)               Vec<Finding>: pure, so that facts of one machine can be judged on another
//! check::pair(&facts, ...)         one provider and one initiator in full
//! ```
//!
//! **Invariant:** nothing here changes the machine. Findings name a command; whoever reads them runs it.
//!
//! **Invariant:** a check that can't see says so ([`Verdict::Unknown`]) and names what would let it see. It deliberately
//! never passes on what it didn't look at.
#![forbid(unsafe_code)]

pub mod check;
pub mod facts;
mod finding;
mod read;
pub mod recommendation;

pub use finding::{Finding, Tally, Verdict};
pub use read::{Asked, Roots};
