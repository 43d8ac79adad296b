//! peermemd: the peer-memory manager, one per node.
//!
//! Data flows one way: [`server`] turns what clients say into inputs of the pure [`core`], and carries out the effects
//! that come back with the help of the [`provider`]s. [`policy`] says who may do what. [`journal`] and [`fd_store`] carry
//! over a restart what must outlive it; [`uevent`] tells of devices that come and go. [`audit`] writes down who got what. [`config`] and [`metrics`] stand
//! beside it; [`sys`] holds every unsafe line.

pub mod audit;
pub mod config;
pub mod core;
pub mod fd_store;
pub mod functions;
pub mod journal;
pub mod mapper;
pub mod metrics;
pub mod policy;
pub mod provider;
mod random;
pub mod ranges;
pub mod server;
pub mod sys;
pub mod uevent;
pub mod vfio;
mod words;
