//! Moving bytes: a connected endpoint, the regions it reaches, and what the device is known to do wrongly.
//!
//! ```text
//! PreparedEndpoint::new(pd, config)      a queue pair of its own, the device's quirks known
//!   .connect(stream, deadline)           both sides exchange queue pair addresses over TCP
//! Endpoint::describe(slice)              RemoteRegion: JSON for the peer
//! Endpoint::write / read                 checked, split, pipelined; returns when the bytes have moved
//! Endpoint::pipeline                     the same message by message, with the next ones started meanwhile
//! Endpoint::relay                        bytes that come from elsewhere piece by piece, such as a drive
//! Messages::new(endpoint, receives)      both sides send, into receives that the other has posted ahead
//! ```
//!
//! **Invariant:** an endpoint never starts a transfer that its device, or the peer's, would carry out wrongly. What a
//! device does wrongly is measured ([`probe`]), not looked up in a list.

mod batches;
mod bench;
mod capability;
mod constraint;
mod endpoint;
pub mod exchange;
mod loopback;
mod messages;
pub mod pattern;
mod pipeline;
mod port;
pub mod probe;
mod quirks;
mod relay;
mod remote;
pub mod selftest;
mod transfer;

pub use batches::Waiting;
pub use constraint::{PageAligned, Unaligned};
pub use endpoint::{Endpoint, EndpointConfig, EndpointError, PreparedEndpoint};
pub use messages::{Message, Messages, MessagesError};
pub use pipeline::Pipeline;
pub use quirks::{OnDemand, Quirks, Unusable};
pub use relay::{Relay, RelayError};
pub use remote::{RemoteAddress, RemoteRegion, RemoteRegionError};
pub use transfer::{Operation, TransferError};
