//! Scenarios that run inside the guest machine, against real devices.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a scenario ends at the first thing that isn't as it should be")]

pub mod cmb;
pub mod peers;
