//! The hold of a pool, without a device: what it does step by step, and what holds whatever happens.
#![allow(clippy::unwrap_used)]

mod pool;
mod properties;
mod steps;
