//! Client library of peermemd: lease device memory, register it for RDMA, move bytes.

pub mod errno;
pub mod verbs;
