//! VFIO: devices that belong to user space, and the IOMMU between them and memory (include/uapi/linux/vfio.h).
//!
//! The kernel wants its calls in one order: container, group into container, IOMMU for the container, devices out of the
//! group. [`Group::open`] goes through it, so that no half-made state has a type.
//!
//! The IOMMU's own user API, iommufd, has neither groups nor containers: [`Iommufd`] is its way to a device and an address space.
//! Debian's kernel is built without it.

mod call;
mod capabilities;
mod container;
mod device;
mod domain;
mod export;
mod files;
mod group;
mod iommu_info;
mod iommufd;

pub use capabilities::Malformed;
pub use device::{BarIndex, Command, Device, Region};
pub use domain::{Domain, Exported, MapDmaError};
pub use export::ExportError;
pub use files::NotOpened;
pub use group::{Group, GroupError, Iommu};
pub use iommu_info::{IommuInfo, IommuInfoError, IovaRange};
pub use iommufd::{Iommufd, IommufdError};
