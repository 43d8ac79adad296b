//! Project tasks: demo, test, vm.

fn main() {}
