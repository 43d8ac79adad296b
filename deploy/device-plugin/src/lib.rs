//! Advertises peermemd's regions to the kubelet, so that a cluster's scheduler places pods where the memory is.
//!
//! ```text
//!            regions, events             devices
//! peermemd ─────────────────► Offer ─────────────────► kubelet ───► scheduler
//!                                    ◄── Allocate ───
//!                                    ─ socket, region ► pod
//! ```
//!
//! Beside the kubelet nothing changes: a pod leases memory from the daemon itself, by its own credentials. What it is
//! allocated here is a place on this node, and the name of the region to ask for.
#![forbid(unsafe_code)]

pub mod api;
mod follow;
mod kubelet;
mod offer;
mod plugin;

pub use follow::follow;
pub use kubelet::{ENDPOINT, RegisterError, serve};
pub use offer::{NumaNode, Offer};
pub use plugin::Plugin;
