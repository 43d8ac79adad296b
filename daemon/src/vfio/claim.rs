//! What a function is taken by: VFIO's older interface or the IOMMU's own.

use std::os::fd::{BorrowedFd, OwnedFd};

use peermem_proto::PciAddress;
use peermem_topology::Details;

use super::{Backend, OpenError};
use crate::sys::vfio::{Device, Domain, Group, Iommu, Iommufd};

/// What a function's address space lives in.
#[derive(Debug)]
pub enum Space<Fd> {
    /// Its group, in a container.
    Container {
        /// The group.
        group: Fd,
        /// The container.
        container: Fd,
    },
    /// An iommufd.
    Iommufd {
        /// Its descriptor.
        fd: Fd,
        /// The address space's number in it.
        number: u32,
    },
}

/// What gives a function's device, and has its address space.
#[derive(Debug)]
pub(super) enum Claim {
    Group(Group),
    Iommufd(Iommufd),
}

impl Claim {
    /// Takes a function that is in this group.
    pub(super) fn open(
        address: PciAddress,
        details: &Details,
        (group, iommu): (u32, Iommu),
        backend: Backend,
    ) -> Result<Self, OpenError> {
        // Nothing translates without an IOMMU: of that, iommufd has nothing to offer.
        let by_group = iommu == Iommu::None
            || match backend {
                Backend::Auto => Group::are_there(),
                Backend::Container => true,
                Backend::Iommufd => false,
            };
        if by_group {
            return Ok(Self::Group(Group::open(group, iommu).map_err(OpenError::Group)?));
        }
        let device = details.vfio_device.ok_or(OpenError::NoIommufd(address))?;
        Ok(Self::Iommufd(Iommufd::open(device).map_err(OpenError::Iommufd)?))
    }

    /// Takes it over from an earlier process.
    pub(super) fn take_over(
        address: PciAddress,
        details: &Details,
        kept: Space<OwnedFd>,
    ) -> Result<Self, OpenError> {
        match kept {
            Space::Container { group, container } => {
                let group = Group::take_over(group, container);
                Ok(Self::Group(group.map_err(|source| OpenError::Device { address, source })?))
            }
            Space::Iommufd { fd, number } => {
                let device = details.vfio_device.ok_or(OpenError::NoIommufd(address))?;
                let taken = Iommufd::take_over(fd, number, device);
                Ok(Self::Iommufd(taken.map_err(|source| OpenError::AddressSpace { address, source })?))
            }
        }
    }

    pub(super) fn device(&self, address: PciAddress) -> Result<Device, OpenError> {
        match self {
            Self::Group(group) => {
                group.device(address).map_err(|source| OpenError::Device { address, source })
            }
            Self::Iommufd(iommufd) => iommufd.device().map_err(OpenError::Iommufd),
        }
    }

    /// Whether the kernel gives the device to one taker only, so that who gets it knows that nobody else has it.
    pub(super) const fn is_exclusive(&self) -> bool {
        matches!(self, Self::Iommufd(_))
    }

    pub(super) fn domain(&self) -> Option<Domain<'_>> {
        match self {
            Self::Group(group) => group.domain(),
            Self::Iommufd(iommufd) => Some(iommufd.domain()),
        }
    }

    pub(super) fn space(&self) -> Space<BorrowedFd<'_>> {
        match self {
            Self::Group(group) => Space::Container { group: group.group(), container: group.container() },
            Self::Iommufd(iommufd) => Space::Iommufd { fd: iommufd.descriptor(), number: iommufd.space() },
        }
    }
}
