//! Profile `iommufd`: what profile `iommu` does by containers, by the IOMMU's own user API; and where the two differ.
#![allow(missing_docs, clippy::unwrap_used)]

mod backends;
mod files;
#[path = "../iommu_vfio/lent.rs"]
mod lent;
#[path = "../iommu_vfio/mapping.rs"]
mod mapping;
#[path = "../iommu_vfio/refusals.rs"]
mod refusals;
mod revoked;
