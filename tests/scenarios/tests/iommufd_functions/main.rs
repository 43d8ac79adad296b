//! Profile `iommufd`: all that clients get of the daemon in profile `iommu`, with the IOMMU's own user API below.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../iommu_functions/ends.rs"]
mod ends;
#[path = "../iommu_functions/refusals.rs"]
mod refusals;
#[path = "../iommu_functions/restarts.rs"]
mod restarts;
#[path = "../iommu_functions/transfers.rs"]
mod transfers;
#[path = "../iommu_functions/users.rs"]
mod users;
