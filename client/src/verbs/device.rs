//! The RDMA devices of this machine.

use std::{
    ffi::{CStr, c_int},
    fmt,
    ptr::NonNull,
    sync::Arc,
};

use peermem_verbs_sys as sys;
use thiserror::Error;

use super::{Context, number::Guid};
use crate::errno::Errno;

/// Why a device can't be found, opened or asked.
#[derive(Debug, Clone, Error)]
pub enum DeviceError {
    /// No libibverbs in this process.
    #[error(transparent)]
    Library(&'static sys::LoadError),
    /// The kernel's list of devices can't be read.
    #[error("RDMA devices can't be listed")]
    List(#[source] Errno),
    /// None has this name.
    #[error("no RDMA device is called {name:?}; there {}", describe(present))]
    NotFound {
        /// The name asked for.
        name: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// The device is there and can't be opened; `EACCES` points at the permissions of `/dev/infiniband/uverbs*`.
    #[error("RDMA device {name} can't be opened")]
    Open {
        /// The device.
        name: String,
        /// What `ibv_open_device` said.
        source: Errno,
    },
    /// A query or a creating call failed.
    #[error("{name}: {operation} failed")]
    Operation {
        /// The device.
        name: String,
        /// The verb.
        operation: &'static str,
        /// What it said.
        source: Errno,
    },
}

fn describe(names: &[String]) -> String {
    match names {
        [] => "is none (is the driver loaded, and for soft-RoCE: was `rdma link add` run?)".into(),
        names => format!("are: {}", names.join(", ")),
    }
}

/// What runs below the verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// InfiniBand or RoCE.
    Ib,
    /// iWARP.
    Iwarp,
    /// Anything else: this crate has no use for it.
    Other,
}

/// A device as listed: it can be opened.
#[derive(Clone)]
pub struct Device {
    list: Arc<DeviceList>,
    raw: NonNull<sys::ibv_device>,
}

/// What `ibv_get_device_list` returned. Devices that aren't open live as long as it does.
struct DeviceList {
    verbs: &'static sys::Verbs,
    raw: NonNull<*mut sys::ibv_device>,
}

// SAFETY: the list and its devices are only read, apart from reference counts that libibverbs guards itself.
unsafe impl Send for DeviceList {}
// SAFETY: as above.
unsafe impl Sync for DeviceList {}
// SAFETY: a device is a pointer into such a list, kept alive by it.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl Drop for DeviceList {
    fn drop(&mut self) {
        // SAFETY: the list came from ibv_get_device_list, and nothing points into it any more.
        unsafe { (self.verbs.ibv_free_device_list)(self.raw.as_ptr()) };
    }
}

impl Device {
    /// All devices. None is an ordinary answer, also where no RDMA driver is loaded.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Library`] without libibverbs, [`DeviceError::List`] when the kernel can't be asked.
    pub fn list() -> Result<Vec<Self>, DeviceError> {
        let verbs = sys::Verbs::get().map_err(DeviceError::Library)?;
        let mut count: c_int = 0;
        // SAFETY: `count` may be written.
        let raw = unsafe { (verbs.ibv_get_device_list)(&raw mut count) };
        let Some(raw) = NonNull::new(raw) else {
            return match Errno::last() {
                // Without ib_uverbs there is no class directory, and the library says ENOSYS.
                errno if errno.name() == Some("ENOSYS") => Ok(Vec::new()),
                errno => Err(DeviceError::List(errno)),
            };
        };
        let list = Arc::new(DeviceList { verbs, raw });
        let count = usize::try_from(count).unwrap_or_default();
        // SAFETY: the list has `count` entries, and lives in `list`.
        let entries = unsafe { std::slice::from_raw_parts(raw.as_ptr(), count) };
        Ok(entries
            .iter()
            .filter_map(|&raw| NonNull::new(raw))
            .map(|raw| Self { list: list.clone(), raw })
            .collect())
    }

    /// The device with this name, as in `/sys/class/infiniband`.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list), and [`DeviceError::NotFound`] with the names there are.
    pub fn by_name(name: &str) -> Result<Self, DeviceError> {
        let devices = Self::list()?;
        let present = devices.iter().map(Self::name).collect();
        devices
            .into_iter()
            .find(|device| device.name() == name)
            .ok_or_else(|| DeviceError::NotFound { name: name.to_owned(), present })
    }

    /// The name, as in `/sys/class/infiniband`.
    pub fn name(&self) -> String {
        // SAFETY: the device is alive in its list.
        let name = unsafe { (self.list.verbs.ibv_get_device_name)(self.raw.as_ptr()) };
        // SAFETY: the library returns a NUL-terminated string inside the device.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned()
    }

    /// The node's GUID.
    pub fn guid(&self) -> Guid {
        // SAFETY: the device is alive in its list.
        Guid::from_be(unsafe { (self.list.verbs.ibv_get_device_guid)(self.raw.as_ptr()) })
    }

    /// What runs below the verbs.
    pub fn transport(&self) -> Transport {
        // SAFETY: the device is alive in its list.
        match unsafe { (*self.raw.as_ptr()).transport_type } {
            sys::IBV_TRANSPORT_IB => Transport::Ib,
            sys::IBV_TRANSPORT_IWARP => Transport::Iwarp,
            _ => Transport::Other,
        }
    }

    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`DeviceError::Open`].
    pub fn open(&self) -> Result<Arc<Context>, DeviceError> {
        // SAFETY: the device is alive in its list; an open one stays valid when the list is freed.
        let raw = unsafe { (self.list.verbs.ibv_open_device)(self.raw.as_ptr()) };
        // SAFETY: the context was just opened and nobody else has it.
        unsafe { Context::from_raw(self.list.verbs, raw, self.name(), self.guid()) }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device").field("name", &self.name()).field("guid", &self.guid()).finish()
    }
}
