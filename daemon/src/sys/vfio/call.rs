//! The one door to the ioctls of VFIO and iommufd.

use std::{
    ffi::{c_int, c_void},
    os::fd::BorrowedFd,
    ptr,
};

use iommufd_bindings::iommufd as user_api;
use rustix::{
    io::Result,
    ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode},
};
use vfio_bindings::bindings::vfio as abi;

/// What to do: the N in `_IO(VFIO_TYPE, VFIO_BASE + N)`. These numbers carry neither direction nor size. iommufd's are of the same
/// type and begin at a base of their own.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Number {
    CheckExtension = 1,
    SetIommu = 2,
    GroupGetStatus = 3,
    GroupSetContainer = 4,
    GroupGetDeviceFd = 6,
    DeviceGetInfo = 7,
    DeviceGetRegionInfo = 8,
    DeviceSetIrqs = 10,
    IommuGetInfo = 12,
    IommuMapDma = 13,
    IommuUnmapDma = 14,
    DeviceFeature = 17,
    DeviceBindIommufd = 18,
    DeviceAttachIommufdPt = 19,
    IoasAlloc = iommufd(user_api::IOMMUFD_CMD_IOAS_ALLOC),
    IoasIovaRanges = iommufd(user_api::IOMMUFD_CMD_IOAS_IOVA_RANGES),
    IoasUnmap = iommufd(user_api::IOMMUFD_CMD_IOAS_UNMAP),
    IoasMapFile = iommufd(user_api::IOMMUFD_CMD_IOAS_MAP_FILE),
}

struct Call {
    number: Number,
    argument: *mut c_void,
}

// SAFETY: rustix passes `opcode` and `as_ptr` to ioctl(2) as they are, and `output_from_ptr` doesn't touch the pointer. What
// the kernel does through it is between `call`'s caller and the kernel.
unsafe impl Ioctl for Call {
    type Output = c_int;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::none(abi::VFIO_TYPE, BASE + self.number as u8)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(output: IoctlOutput, _: *mut c_void) -> Result<c_int> {
        Ok(output)
    }
}

/// `VFIO_BASE`, in the width that ioctl numbers have.
const BASE: u8 = 100;
const _: () = assert!(BASE as u32 == abi::VFIO_BASE && abi::VFIO_TYPE == user_api::IOMMUFD_TYPE);

/// A command of iommufd's, counted from VFIO's base.
const fn iommufd(command: u32) -> u8 {
    assert!(command > BASE as u32 && command <= u8::MAX as u32);
    #[allow(clippy::cast_possible_truncation, reason = "at most 255, as asserted")]
    {
        command as u8 - BASE
    }
}

/// A call whose argument is a structure that the kernel reads, and may write to.
///
/// # Safety
/// `argument` points to what the header says for `number`. Where that has an `argsz`, so many bytes from its start on
/// belong to the caller; pointers in it are valid for what the header says of them.
pub(super) unsafe fn pointer<T>(fd: BorrowedFd<'_>, number: Number, argument: *mut T) -> Result<c_int> {
    // SAFETY: the caller vouches for the argument.
    unsafe { ioctl(fd, Call { number, argument: argument.cast() }) }
}

/// A call whose argument is a plain number: the kernel follows no pointer.
///
/// # Safety
/// The header says a number for `number`.
pub(super) unsafe fn value(fd: BorrowedFd<'_>, number: Number, argument: u32) -> Result<c_int> {
    let argument = ptr::without_provenance_mut(argument as usize);
    // SAFETY: the caller vouches that it isn't taken for an address.
    unsafe { ioctl(fd, Call { number, argument }) }
}

/// `size_of` as an `argsz`. Evaluated when compiled, where too large a type is an error.
pub(super) const fn size<T>() -> u32 {
    const { assert!(size_of::<T>() <= 4096) };
    #[allow(clippy::cast_possible_truncation, reason = "at most 4096, as asserted")]
    {
        size_of::<T>() as u32
    }
}
