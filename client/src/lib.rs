//! Client library of peermemd: lease device memory, register it for RDMA, move bytes.
//!
//! A [`Client`] is a connection to the daemon; [`Client::map`] brings a [`Lease`]. This process reaches its memory by
//! [`Lease::mapping`], an RDMA device by [`Lease::register`] in a protection domain of the caller's own ([`verbs`]);
//! [`MrCache`] registers each lease once. [`rdma`] moves the bytes, and refuses what a device would move wrongly. With the
//! feature `async`, [`aio::Client`] does all this without blocking.
//!
//! ```no_run
//! use peermem::{Client, proto::{ByteLen, Direction, Extent, Initiator, call::Map}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect()?;
//! for region in client.regions()? {
//!     println!("{}: {} of {} free", region.name, region.free, region.size);
//! }
//! let request = Map::new(
//!     "p2pmem-0000:3b:00.0".parse()?,
//!     Extent::Size(ByteLen::new(4 << 20)),
//!     [Initiator::Rdma("mlx5_0".parse()?)],
//!     Direction::Bidirectional,
//! );
//! let lease = client.map(&request)?;
//! println!("{}, as {} memory", lease.info().paths[0], lease.info().method);
//! lease.mapping()?.copy_from_slice(0, b"straight into the drive's buffer")?;
//! lease.unmap()?;
//! # Ok(())
//! # }
//! ```

pub mod advice;
mod cache;
mod connection;
pub mod errno;
mod lease;
mod mapping;
pub mod rdma;
mod registration;
pub mod verbs;

pub use cache::{CacheCounts, CacheLimits, MrCache};
#[cfg(feature = "async")]
pub use connection::aio;
pub use connection::{
    CallFailed, Client, ConnectError, Connection, ConnectionError, DEFAULT_TIMEOUT, Holding,
    RegisteredRegion, Trouble, Watch,
};
pub use lease::Lease;
pub use mapping::{CopyError, DirectIoError, Mapping, MappingError};
pub use peermem_proto as proto;
pub use registration::RegistrationError;
