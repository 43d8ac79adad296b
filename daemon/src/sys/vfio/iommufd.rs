//! The IOMMU's own user API, and a device taken by its own file: include/uapi/linux/iommufd.h.
//!
//! Instead of a group in a container there is an *I/O address space* (IOAS) in `/dev/iommu`, and the device is bound to the one and
//! attached to the other. Memory of another device is mapped as a dma-buf, since iommufd doesn't take mmaps of BARs; so the kernel
//! knows whose memory it is, and takes the mapping away when the dma-buf is revoked.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use iommufd_bindings::iommufd as abi;
use peermem_proto::{ByteLen, Direction, address::Iova};
use rustix::io::Errno;
use thiserror::Error;
use vfio_bindings::bindings::vfio::{vfio_device_attach_iommufd_pt, vfio_device_bind_iommufd};

use super::{
    call::{self, Number, size},
    device::Device,
    domain::{Domain, flags},
    files::{self, NotOpened},
    iommu_info::{IommuInfo, IommuInfoError, IovaRange},
};

/// Where the user API is.
const IOMMU: &str = "/dev/iommu";

/// Ranges of addresses that are asked for at first: there are as many as holes in them, which are few.
const RANGES: usize = 16;

const READ: u32 = abi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE;
const WRITE: u32 = abi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE;

/// Why there is no address space, or no device for it.
#[derive(Debug, Error)]
pub enum IommufdError {
    /// `/dev/iommu` or the device's own file can't be opened.
    #[error(transparent)]
    Open(#[from] NotOpened),
    /// Someone has a descriptor of the device, or a mapping of its BARs (`vfio_df_open` in drivers/vfio/vfio_main.c).
    #[error("another process has the device, and iommufd gives it to one at a time")]
    InUse,
    /// Someone has the device's IOMMU group: another process, or a driver that does DMA on the kernel's behalf.
    #[error(
        "the device's IOMMU group is in use: by another process, or by a kernel's driver of another function of it"
    )]
    GroupInUse,
    /// Another call failed.
    #[error("{call} failed")]
    Call {
        /// The call.
        call: &'static str,
        /// The kernel's answer.
        #[source]
        source: Errno,
    },
}

/// An address space for one device. What is mapped here reaches this device and no other; all of it is gone when the last
/// descriptor of both is closed.
#[derive(Debug)]
pub struct Iommufd {
    fd: OwnedFd,
    space: u32,
    device: u32,
}

impl Iommufd {
    /// Makes an address space for the device `/dev/vfio/devices/vfioN`, N being `device`.
    ///
    /// # Errors
    /// [`IommufdError`].
    pub fn open(device: u32) -> Result<Self, IommufdError> {
        let fd = files::open(IOMMU.into())?;
        let mut alloc = abi::iommu_ioas_alloc { size: size::<abi::iommu_ioas_alloc>(), ..Default::default() };
        // SAFETY: the call takes an `iommu_ioas_alloc`, and this is a whole one.
        unsafe { call::pointer(fd.as_fd(), Number::IoasAlloc, &raw mut alloc) }
            .map_err(|source| IommufdError::Call { call: "IOMMU_IOAS_ALLOC", source })?;
        Ok(Self { fd, space: alloc.out_ioas_id, device })
    }

    /// The same address space from a descriptor that an earlier process opened, with all that is mapped there.
    ///
    /// # Errors
    /// What the kernel says of descriptors of other files, and of those that have no such address space.
    pub fn take_over(fd: OwnedFd, space: u32, device: u32) -> Result<Self, IommuInfoError> {
        let taken = Self { fd, space, device };
        taken.domain().info().map(|_| taken)
    }

    /// Its device, attached. It is enabled and reset by that; when its last descriptor is closed, mappings of its BARs included,
    /// it is reset again and every dma-buf that it exported is revoked. It is given once: again only
    /// when no copy of that descriptor is left.
    ///
    /// # Errors
    /// [`IommufdError`].
    pub fn device(&self) -> Result<Device, IommufdError> {
        let device = files::open(format!("/dev/vfio/devices/vfio{}", self.device).into())?;
        let failed = |call| move |source| IommufdError::Call { call, source };
        let mut bind = vfio_device_bind_iommufd {
            argsz: size::<vfio_device_bind_iommufd>(),
            iommufd: self.fd.as_raw_fd(),
            ..Default::default()
        };
        // SAFETY: the call takes a `vfio_device_bind_iommufd`, and this is a whole one; without flags it has no pointer.
        unsafe { call::pointer(device.as_fd(), Number::DeviceBindIommufd, &raw mut bind) }.map_err(
            |errno| match errno {
                Errno::INVAL => IommufdError::InUse,
                Errno::BUSY => IommufdError::GroupInUse,
                other => failed("VFIO_DEVICE_BIND_IOMMUFD")(other),
            },
        )?;
        let mut attach = vfio_device_attach_iommufd_pt {
            argsz: size::<vfio_device_attach_iommufd_pt>(),
            pt_id: self.space,
            ..Default::default()
        };
        // SAFETY: the call takes a `vfio_device_attach_iommufd_pt`, and this is a whole one.
        unsafe { call::pointer(device.as_fd(), Number::DeviceAttachIommufdPt, &raw mut attach) }
            .map_err(failed("VFIO_DEVICE_ATTACH_IOMMUFD_PT"))?;
        Ok(Device::new(device))
    }

    /// The descriptor: mappings live as long as one of its copies, or of the device's.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The address space's number, which means something to copies of this descriptor only.
    pub const fn space(&self) -> u32 {
        self.space
    }

    /// The address space.
    pub fn domain(&self) -> Domain<'_> {
        Domain::Iommufd(Addresses { fd: self.fd.as_fd(), space: self.space })
    }
}

/// One address space of an iommufd.
#[derive(Debug, Clone, Copy)]
pub struct Addresses<'a> {
    fd: BorrowedFd<'a>,
    space: u32,
}

impl Addresses<'_> {
    /// What the IOMMU can translate for the device that is attached.
    pub(super) fn info(self) -> Result<IommuInfo, IommuInfoError> {
        let mut found = vec![abi::iommu_iova_range::default(); RANGES];
        let mut answer = self.ranges(&mut found);
        if let (Err(Errno::MSGSIZE), asked) = &answer {
            found.resize(asked.num_iovas as usize, abi::iommu_iova_range::default());
            answer = self.ranges(&mut found);
        }
        let (result, asked) = answer;
        result?;
        found.truncate(asked.num_iovas as usize);
        let range = |range: abi::iommu_iova_range| IovaRange {
            first: Iova::new(range.start),
            last: Iova::new(range.last),
        };
        IommuInfo::from_ranges(asked.out_iova_alignment, found.into_iter().map(range).collect())
    }

    /// Fills `found` with as many ranges as there are, or says how many there would be.
    fn ranges(self, found: &mut [abi::iommu_iova_range]) -> (Result<(), Errno>, abi::iommu_ioas_iova_ranges) {
        let mut ask = abi::iommu_ioas_iova_ranges {
            size: size::<abi::iommu_ioas_iova_ranges>(),
            ioas_id: self.space,
            num_iovas: u32::try_from(found.len()).unwrap_or(u32::MAX),
            allowed_iovas: found.as_mut_ptr().expose_provenance() as u64,
            ..Default::default()
        };
        // SAFETY: the call takes an `iommu_ioas_iova_ranges`, this is a whole one, and it writes at most `num_iovas` ranges to
        // `allowed_iovas`, which are `found`'s.
        let result = unsafe { call::pointer(self.fd, Number::IoasIovaRanges, &raw mut ask) };
        (result.map(drop), ask)
    }

    /// Lets the device reach all `length` bytes of a dma-buf at `iova`.
    pub(super) fn map(
        self,
        iova: Iova,
        dmabuf: BorrowedFd<'_>,
        length: ByteLen,
        direction: Direction,
    ) -> Result<(), Errno> {
        let mut map = abi::iommu_ioas_map_file {
            size: size::<abi::iommu_ioas_map_file>(),
            flags: abi::iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA | flags(direction, READ, WRITE),
            ioas_id: self.space,
            fd: dmabuf.as_raw_fd(),
            start: 0,
            length: length.get(),
            iova: iova.get(),
        };
        // SAFETY: the call takes an `iommu_ioas_map_file`, and this is a whole one. It has no pointer: what the device will reach
        // is what the file is of.
        unsafe { call::pointer(self.fd, Number::IoasMapFile, &raw mut map) }.map(drop)
    }

    /// Takes mappings away that lie in a range as a whole; returns how many bytes there were. `ENOENT` says that there were none
    /// (`iommufd_ioas_unmap` in drivers/iommu/iommufd/ioas.c): also where a mapping lies in the range in part, which stays.
    pub(super) fn unmap(self, iova: Iova, length: ByteLen) -> Result<ByteLen, Errno> {
        let mut unmap = abi::iommu_ioas_unmap {
            size: size::<abi::iommu_ioas_unmap>(),
            ioas_id: self.space,
            iova: iova.get(),
            length: length.get(),
        };
        // SAFETY: the call takes an `iommu_ioas_unmap`, and this is a whole one.
        match unsafe { call::pointer(self.fd, Number::IoasUnmap, &raw mut unmap) } {
            Ok(_) => Ok(ByteLen::new(unmap.length)),
            Err(Errno::NOENT) => Ok(ByteLen::ZERO),
            Err(errno) => Err(errno),
        }
    }
}
