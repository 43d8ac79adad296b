//! Command line of peermemd: status, regions, leases, map, verify.

fn main() {}
