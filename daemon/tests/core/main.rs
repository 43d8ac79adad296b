//! The core, through its inputs and effects alone.
#![allow(clippy::unwrap_used)]

mod findings;
mod life;
mod pages;
mod policies;
mod properties;
mod restarts;
mod steps;
mod support;
mod world;
