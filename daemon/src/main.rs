//! The peer-memory manager: decides who may map device memory for which device.

fn main() {}
