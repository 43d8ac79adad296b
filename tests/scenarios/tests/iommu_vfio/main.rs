//! Profile `iommu`: BARs of functions on vfio-pci as memory, a DMA engine as the initiator, an emulated Intel IOMMU between.
#![allow(missing_docs, clippy::unwrap_used)]

mod groups;
mod lent;
mod mapping;
mod refusals;
mod revocation;
mod takeover;
mod windows;
