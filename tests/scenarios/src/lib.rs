//! Scenarios that run inside the guest machine, against real devices.
//!
//! What is here panics where something isn't as it should be: a scenario ends at the first such thing. Everything that
//! a scenario changes about the machine (users, the daemon's config, the daemon itself) is a value that changes it back
//! when dropped.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a scenario ends at the first surprise")]

pub mod acs;
pub mod cmb;
pub mod command;
pub mod daemon;
pub mod doctor;
pub mod drive;
pub mod edu;
pub mod events;
pub mod faults;
pub mod host_memory;
pub mod leased;
pub mod link;
pub mod mover;
pub mod oracle;
pub mod owned;
pub mod peers;
pub mod plug;
pub mod role;
pub mod user;
pub mod vfio;
pub mod vram;
pub mod wait;
