//! A group of devices in a container of its own.

use std::{
    ffi::CString,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use peermem_proto::PciAddress;
use rustix::io::Errno;
use thiserror::Error;
use vfio_bindings::bindings::vfio as abi;

use super::{
    call::{self, Number, size},
    container::Container,
    device::Device,
    domain::Domain,
    files::{self, NotOpened},
};

/// Where containers are made.
const CONTAINER: &str = "/dev/vfio/vfio";

/// What stands between the devices of a group and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Iommu {
    /// An IOMMU, which translates what they emit.
    TypeOne,
    /// Nothing: what they emit is where it goes, and all memory is theirs. The kernel asks for `CAP_SYS_RAWIO` before it gives such
    /// a group or a device of it, and is tainted by it.
    None,
}

impl Iommu {
    const ALL: [Self; 2] = [Self::TypeOne, Self::None];

    /// What the kernel calls it.
    const fn extension(self) -> u32 {
        match self {
            Self::TypeOne => abi::VFIO_TYPE1v2_IOMMU,
            Self::None => abi::VFIO_NOIOMMU_IOMMU,
        }
    }

    /// A group's file. The two have numbers of their own (`vfio_group_alloc` in drivers/vfio/group.c).
    fn path(self, number: u32) -> PathBuf {
        match self {
            Self::TypeOne => format!("/dev/vfio/{number}").into(),
            Self::None => format!("/dev/vfio/noiommu-{number}").into(),
        }
    }
}

/// Why a group isn't given.
#[derive(Debug, Error)]
pub enum GroupError {
    /// `/dev/vfio/vfio` or the group's file can't be opened.
    #[error(transparent)]
    Open(#[from] NotOpened),
    /// Other functions of the group have drivers that do DMA on the kernel's behalf.
    #[error("group {group} isn't viable: every function of it must be bound to vfio-pci or to no driver")]
    NotViable {
        /// The group's number.
        group: u32,
    },
    /// The kernel's IOMMU driver doesn't offer the interface.
    #[error("the kernel offers no type 1 IOMMU: load vfio_iommu_type1")]
    NoTypeOne,
    /// The kernel gives devices without an IOMMU to the privileged only.
    #[error(
        "group {group} has no IOMMU, and the kernel gives it to those with CAP_SYS_RAWIO only: give peermemd.service that \
         capability (AmbientCapabilities=, CapabilityBoundingSet=)"
    )]
    NotPrivileged {
        /// The group's number.
        group: u32,
    },
    /// Another call failed.
    #[error("{call} failed for group {group}")]
    Call {
        /// The call.
        call: &'static str,
        /// The group's number.
        group: u32,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
}

/// A group of devices in a container of its own: one DMA address space, where there is an IOMMU. What is mapped there reaches the
/// devices of this group and no others; all of it is gone when the last descriptor of the container is closed.
#[derive(Debug)]
pub struct Group {
    // Closed in this order: a container outlives the groups in it anyway.
    group: OwnedFd,
    container: OwnedFd,
    iommu: Iommu,
}

impl Group {
    /// Takes the group with this number. The kernel gives it to one process at a time.
    ///
    /// # Errors
    /// [`GroupError`].
    pub fn open(number: u32, iommu: Iommu) -> Result<Self, GroupError> {
        let container = files::open(CONTAINER.into())?;
        let group = files::open(iommu.path(number)).map_err(|error| match error.source {
            Errno::PERM => GroupError::NotPrivileged { group: number },
            _ => error.into(),
        })?;
        let failed = |call| move |source| GroupError::Call { call, group: number, source };
        let flags = status(group.as_fd()).map_err(failed("VFIO_GROUP_GET_STATUS"))?;
        if flags & abi::VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(GroupError::NotViable { group: number });
        }
        let mut descriptor = container.as_raw_fd();
        // SAFETY: the call reads an `int`, the descriptor of a container, which is open.
        unsafe { call::pointer(group.as_fd(), Number::GroupSetContainer, &raw mut descriptor) }
            .map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
        // Only a container that has a group knows its extensions.
        if !offers(container.as_fd(), iommu).map_err(failed("VFIO_CHECK_EXTENSION"))? {
            return Err(GroupError::NoTypeOne);
        }
        // SAFETY: the call takes the IOMMU type's number.
        unsafe { call::value(container.as_fd(), Number::SetIommu, iommu.extension()) }
            .map_err(failed("VFIO_SET_IOMMU"))?;
        Ok(Self { group, container, iommu })
    }

    /// The same group from descriptors that an earlier process opened, with all that is mapped there.
    ///
    /// # Errors
    /// What the kernel says of descriptors that aren't such a pair; `EINVAL` for a group that is in no container.
    pub fn take_over(group: OwnedFd, container: OwnedFd) -> Result<Self, Errno> {
        if status(group.as_fd())? & abi::VFIO_GROUP_FLAGS_CONTAINER_SET == 0 {
            return Err(Errno::INVAL);
        }
        // A container whose IOMMU is chosen offers no other.
        for iommu in Iommu::ALL {
            if offers(container.as_fd(), iommu)? {
                return Ok(Self { group, container, iommu });
            }
        }
        Err(Errno::INVAL)
    }

    /// Whether this kernel has groups in containers at all.
    pub fn are_there() -> bool {
        Path::new(CONTAINER).exists()
    }

    /// A device of the group. The first descriptor of a device enables and resets it; the last one that is closed, mappings
    /// of its BARs included, resets it again and revokes every dma-buf that it exported.
    ///
    /// # Errors
    /// `ENODEV` for a function that isn't bound to vfio-pci or isn't in this group.
    pub fn device(&self, address: PciAddress) -> Result<Device, Errno> {
        // Text of a PCI address holds no zero byte.
        let mut name = CString::new(address.to_string()).unwrap_or_default().into_bytes_with_nul();
        // SAFETY: the call reads a string that ends in a zero byte.
        let fd = unsafe { call::pointer(self.group.as_fd(), Number::GroupGetDeviceFd, name.as_mut_ptr()) }?;
        // SAFETY: the call returns a new descriptor that nobody else has. It is close-on-exec (`vfio_device_open_file`).
        Ok(Device::new(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The DMA address space; `None` without an IOMMU.
    pub fn domain(&self) -> Option<Domain<'_>> {
        (self.iommu == Iommu::TypeOne).then_some(Domain::Container(Container(self.container.as_fd())))
    }

    /// The container's descriptor: mappings live as long as one of its copies.
    pub fn container(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }

    /// The group's descriptor.
    pub fn group(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

/// Whether a container can have, or has, this IOMMU.
fn offers(container: BorrowedFd<'_>, iommu: Iommu) -> Result<bool, Errno> {
    // SAFETY: the call takes the extension's number; other files than containers don't know it.
    Ok(unsafe { call::value(container, Number::CheckExtension, iommu.extension()) }? != 0)
}

/// `VFIO_GROUP_FLAGS_*` of a group.
fn status(group: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut status = abi::vfio_group_status { argsz: size::<abi::vfio_group_status>(), flags: 0 };
    // SAFETY: the call takes a `vfio_group_status`, and this is a whole one.
    unsafe { call::pointer(group, Number::GroupGetStatus, &raw mut status) }?;
    Ok(status.flags)
}
