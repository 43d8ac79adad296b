//! peermemd: the peer-memory manager, one per node.
//!
//! Data flows one way: [`server`] turns what clients say into inputs of the pure [`core`], and carries out the effects
//! that come back with the help of the [`provider`]s. [`config`] and [`metrics`] stand beside it; [`sys`] holds every
//! unsafe line.

pub mod config;
pub mod core;
pub mod metrics;
pub mod provider;
pub mod server;
pub mod sys;
