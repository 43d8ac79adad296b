//! What peermemd and its clients say to each other.
//!
//! The vocabulary as types ([`address`], [`pci`], [`size`], [`id`], [`device`], [`mapping`]), what is listed
//! ([`region`], [`lease`], [`status`]), the calls of the interface ([`call`]), the reasons for a *no*
//! ([`refusal`], [`fault`]), the envelope in which all of it travels ([`varlink`]) and the rule that finds the other side
//! ([`socket_path`]). No I/O, no clock.
//!
//! **Invariant:** the three kinds of address never convert into one another here. There is deliberately no
//! `From` between [`PhysAddr`], [`BusAddr`] and [`DmaAddr`]: only code that knows both the provider and the
//! initiator can make one from another.
#![forbid(unsafe_code)]

pub mod action;
pub mod address;
pub mod call;
pub mod device;
pub mod event;
pub mod fault;
pub mod finding;
pub mod id;
pub mod interface;
pub mod lease;
pub mod mapping;
pub mod pci;
pub mod refusal;
pub mod region;
pub mod size;
pub mod socket_path;
pub mod status;
mod text;
pub mod time;
pub mod token;
pub mod varlink;

pub use action::{Action, Considered, Explanation};
pub use address::{BusAddr, DmaAddr, PhysAddr};
pub use device::{Initiator, RdmaName};
pub use event::{Event, LeaseEnd};
pub use fault::Fault;
pub use finding::{DeviceFinding, OnDemandFinding};
pub use id::{Generation, LeaseId, RegionName};
pub use lease::{Lease, LeaseState, Owner, Revoked};
pub use mapping::{Direction, Extent, Method, Path, Revocation, Route};
pub use pci::PciAddress;
pub use refusal::Refusal;
pub use region::{ProviderKind, Region, Shape, Sharing};
pub use size::{ByteLen, ByteRange};
pub use time::Moment;
pub use token::Token;

/// Version of the calls in [`interface::BROKER`]. A change that an older peer can't understand raises it.
pub const PROTOCOL_VERSION: u32 = 1;
