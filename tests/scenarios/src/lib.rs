//! Scenarios that run inside the guest machine, against real devices.
#![forbid(unsafe_code)]
