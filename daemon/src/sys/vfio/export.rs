//! A range of a BAR as a dma-buf: `VFIO_DEVICE_FEATURE_DMA_BUF`, Linux 6.19.

use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};

use peermem_proto::ByteRange;
use rustix::{fs::OFlags, io::Errno};
use thiserror::Error;
use vfio_bindings::bindings::vfio as abi;

use super::{
    BarIndex, Device,
    call::{self, Number, size},
};

/// Why there is no dma-buf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ExportError {
    /// The kernel or the device's driver can't.
    #[error(
        "this kernel exports no dma-bufs of vfio-pci devices: it takes Linux 6.19 or newer, built with \
         CONFIG_VFIO_PCI_DMABUF, and a driver that doesn't turn it down"
    )]
    NotSupported,
    /// It can, and said no. `EINVAL`: not whole pages of that BAR. `ENODEV`: the function doesn't decode memory.
    #[error("the kernel made no dma-buf of {range} of {bar}")]
    Kernel {
        /// The BAR.
        bar: BarIndex,
        /// The range.
        range: ByteRange,
        /// Its answer.
        #[source]
        source: Errno,
    },
}

/// What the feature's `GET` takes for one range.
#[repr(C)]
struct Request {
    feature: abi::vfio_device_feature,
    buffer: abi::vfio_device_feature_dma_buf,
    range: abi::vfio_region_dma_range,
}

impl Device {
    /// Whether this kernel and this device's driver export dma-bufs at all.
    ///
    /// # Errors
    /// What the kernel says about anything else than the feature.
    pub fn can_export(&self) -> Result<bool, Errno> {
        let mut probe = abi::vfio_device_feature {
            argsz: size::<abi::vfio_device_feature>(),
            flags: abi::VFIO_DEVICE_FEATURE_PROBE
                | abi::VFIO_DEVICE_FEATURE_GET
                | abi::VFIO_DEVICE_FEATURE_DMA_BUF,
            ..Default::default()
        };
        // SAFETY: the call takes a `vfio_device_feature`; a probe has no data after it.
        match unsafe { call::pointer(self.as_fd(), Number::DeviceFeature, &raw mut probe) } {
            Ok(_) => Ok(true),
            Err(errno) if is_absence(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// A dma-buf of exactly that range, whole pages of a BAR. It can't be mapped by a CPU. The kernel revokes it when the
    /// device is reset or closed, or stops decoding memory.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn export(&self, bar: BarIndex, range: ByteRange) -> Result<OwnedFd, ExportError> {
        let mut request = Request {
            feature: abi::vfio_device_feature {
                argsz: size::<Request>(),
                flags: abi::VFIO_DEVICE_FEATURE_GET | abi::VFIO_DEVICE_FEATURE_DMA_BUF,
                ..Default::default()
            },
            buffer: abi::vfio_device_feature_dma_buf {
                region_index: u32::from(bar.get()),
                open_flags: (OFlags::RDWR | OFlags::CLOEXEC).bits(),
                nr_ranges: 1,
                ..Default::default()
            },
            range: abi::vfio_region_dma_range { offset: range.offset().get(), length: range.length().get() },
        };
        // SAFETY: the call takes a `vfio_device_feature` whose data is a `vfio_device_feature_dma_buf` with `nr_ranges`
        // ranges behind it; `Request` lays them out one after the other, and `argsz` counts all of it.
        match unsafe { call::pointer(self.as_fd(), Number::DeviceFeature, &raw mut request) } {
            // SAFETY: the call returns a new descriptor that nobody else has.
            Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            Err(errno) if is_absence(errno) => Err(ExportError::NotSupported),
            Err(source) => Err(ExportError::Kernel { bar, range, source }),
        }
    }
}

/// `ENOTTY` from kernels that don't know the feature, `EOPNOTSUPP` from drivers that turn it down.
fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::NOTTY | Errno::OPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_no_gaps() {
        // include/uapi/linux/vfio.h: 8 bytes of header, 16 of buffer, 16 for each range.
        assert_eq!(std::mem::offset_of!(Request, buffer), 8);
        assert_eq!(std::mem::offset_of!(Request, range), 24);
        assert_eq!(size::<Request>(), 40);
    }
}
