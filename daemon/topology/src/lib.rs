//! The PCI tree from sysfs, and the route between any two of its devices.
#![forbid(unsafe_code)]
