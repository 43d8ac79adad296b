//! Profile `iommu`: clients get memory of vfio-pci functions, addresses of an engine and the engine itself from the daemon.
#![allow(missing_docs, clippy::unwrap_used)]

mod ends;
mod refusals;
mod restarts;
mod transfers;
mod users;
