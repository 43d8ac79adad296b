//! The two programs of the demo: one owns the drives' leases, the other owns the GPU.

fn main() {}
