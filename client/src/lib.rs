//! Client library of peermemd: lease device memory, register it for RDMA, move bytes.
