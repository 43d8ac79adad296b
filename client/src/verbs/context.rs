//! An open device.

use std::{
    ffi::CStr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use peermem_verbs_sys::{self as sys, inline};

use super::{
    device::DeviceError,
    gid::{self, GidEntry},
    handle::{CloseError, Handle, check},
    number::Guid,
    odp::OdpCaps,
    port::PortAttributes,
};
use crate::errno::Errno;

/// An open device. All that is created on it keeps it open.
#[derive(Debug)]
pub struct Context {
    pub(super) verbs: &'static sys::Verbs,
    pub(super) handle: Handle<sys::ibv_context>,
    name: String,
    guid: Guid,
}

/// A device's identity and limits (`ibv_query_device_ex(3)`). Counts are at most what the device can do, not what is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceAttributes {
    /// The firmware's version; soft-RoCE leaves it empty.
    pub firmware: String,
    /// PCI vendor, 0xffffff for soft-RoCE.
    pub vendor_id: u32,
    /// PCI device.
    pub vendor_part_id: u32,
    /// Number of ports, counted from 1.
    pub ports: u8,
    /// Bytes of the largest memory region.
    pub max_mr_size: u64,
    /// Work requests a queue pair.
    pub max_qp_wr: u32,
    /// Entries a completion queue.
    pub max_cqe: u32,
    /// RDMA reads and atomics that a queue pair answers at a time.
    pub max_qp_rd_atom: u8,
    /// RDMA reads and atomics that a queue pair starts at a time.
    pub max_qp_init_rd_atom: u8,
    /// What on-demand paging can do here.
    pub odp: OdpCaps,
}

impl Context {
    /// Takes ownership of a context.
    ///
    /// # Safety
    ///
    /// `raw` is what `ibv_open_device` returned, and owned by the caller.
    pub(super) unsafe fn from_raw(
        verbs: &'static sys::Verbs,
        raw: *mut sys::ibv_context,
        name: String,
        guid: Guid,
    ) -> Result<Arc<Self>, DeviceError> {
        // SAFETY: the caller vouches for `raw`.
        let handle = unsafe { Handle::new("device context", raw, verbs.ibv_close_device) }
            .map_err(|source| DeviceError::Open { name: name.clone(), source })?;
        let context = Arc::new(Self { verbs, handle, name, guid });
        rustix::fs::fcntl_setfl(context.as_fd(), rustix::fs::OFlags::NONBLOCK).map_err(|errno| {
            context.failed("set the event fd non-blocking")(Errno::new(errno.raw_os_error()))
        })?;
        Ok(context)
    }

    /// The device's name, as in `/sys/class/infiniband`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The device's node GUID.
    pub fn guid(&self) -> Guid {
        self.guid
    }

    /// Identity and limits.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`].
    pub fn attributes(&self) -> Result<DeviceAttributes, DeviceError> {
        let mut raw = sys::ibv_device_attr_ex::zeroed();
        // SAFETY: the context is open.
        check(unsafe { inline::ibv_query_device_ex(self.verbs, self.handle.as_ptr(), &mut raw) })
            .map_err(self.failed("ibv_query_device_ex"))?;
        let device = &raw.orig_attr;
        let firmware = device.fw_ver.map(|c| c.to_ne_bytes()[0]);
        let text = CStr::from_bytes_until_nul(&firmware).map(|text| text.to_string_lossy().into_owned());
        Ok(DeviceAttributes {
            firmware: text.unwrap_or_default(),
            vendor_id: device.vendor_id,
            vendor_part_id: device.vendor_part_id,
            ports: device.phys_port_cnt,
            max_mr_size: device.max_mr_size,
            max_qp_wr: u32::try_from(device.max_qp_wr).unwrap_or_default(),
            max_cqe: u32::try_from(device.max_cqe).unwrap_or_default(),
            max_qp_rd_atom: u8::try_from(device.max_qp_rd_atom).unwrap_or(u8::MAX),
            max_qp_init_rd_atom: u8::try_from(device.max_qp_init_rd_atom).unwrap_or(u8::MAX),
            odp: OdpCaps::from_abi(&raw.odp_caps),
        })
    }

    /// A port's state; ports are counted from 1.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`]; `EINVAL` where there is no such port.
    pub fn port(&self, port: u8) -> Result<PortAttributes, DeviceError> {
        let mut raw = sys::ibv_port_attr::zeroed();
        // SAFETY: the context is open.
        check(unsafe { inline::ibv_query_port(self.verbs, self.handle.as_ptr(), port, &mut raw) })
            .map_err(self.failed("ibv_query_port"))?;
        Ok(PortAttributes::from_abi(&raw))
    }

    /// The valid entries of a port's GID table.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Operation`].
    pub fn gids(&self, port: u8) -> Result<Vec<GidEntry>, DeviceError> {
        gid::query(self, port).map_err(self.failed("ibv_query_gid_table"))
    }

    /// Closes the device.
    ///
    /// # Errors
    ///
    /// [`CloseError`] when the library refuses.
    pub fn close(mut self) -> Result<(), CloseError> {
        self.handle.close()
    }

    /// Makes an error number an error that names this device and the verb.
    pub(super) fn failed(&self, operation: &'static str) -> impl Fn(Errno) -> DeviceError + '_ {
        move |source| DeviceError::Operation { name: self.name.clone(), operation, source }
    }
}

impl AsFd for Context {
    /// Readable when [`next_event`](Self::next_event) has something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the context is open.
        let fd = unsafe { (*self.handle.as_ptr()).async_fd };
        // SAFETY: the fd belongs to the context, which outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(fd) }
    }
}
