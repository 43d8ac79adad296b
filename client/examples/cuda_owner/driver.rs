//! The dozen functions of `libcuda.so.1` that this takes, found when the program runs (cuda.h, CUDA 11.7 and newer).
#![allow(unsafe_code, reason = "a C library that may not be there")]

use std::{
    ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void},
    os::fd::{FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::{Context as _, Result, bail, ensure};
use libloading::Library;
use peermem::proto::{ByteLen, PciAddress};

type Status = c_int;
/// `CU_DEVICE_ATTRIBUTE_DMA_BUF_SUPPORTED`
const DMA_BUF_SUPPORTED: c_int = 124;
/// `CU_POINTER_ATTRIBUTE_SYNC_MEMOPS`: copies are finished when the calls that make them return, as other devices expect.
const SYNC_MEMOPS: c_int = 6;
/// `CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD`
const DMA_BUF_FD: c_int = 1;

macro_rules! functions {
    ($($field:ident: $name:literal ($($argument:ty),*);)*) => {
        struct Functions {
            $($field: unsafe extern "C" fn($($argument),*) -> Status,)*
        }

        impl Functions {
            fn find(library: &Library) -> Result<Self> {
                Ok(Self {
                    // SAFETY: the type is that of the function of this name in cuda.h.
                    $($field: *unsafe { library.get(concat!($name, "\0")) }
                        .context(concat!("the driver is too old: libcuda has no ", $name))?,)*
                })
            }
        }
    };
}

functions! {
    init: "cuInit"(c_uint);
    get: "cuDeviceGet"(*mut c_int, c_int);
    attribute: "cuDeviceGetAttribute"(*mut c_int, c_int, c_int);
    bus_id: "cuDeviceGetPCIBusId"(*mut c_char, c_int, c_int);
    retain: "cuDevicePrimaryCtxRetain"(*mut *mut c_void, c_int);
    release: "cuDevicePrimaryCtxRelease_v2"(c_int);
    set_current: "cuCtxSetCurrent"(*mut c_void);
    allocate: "cuMemAlloc_v2"(*mut c_ulonglong, usize);
    free: "cuMemFree_v2"(c_ulonglong);
    set_attribute: "cuPointerSetAttribute"(*const c_void, c_int, c_ulonglong);
    export: "cuMemGetHandleForAddressRange"(*mut c_void, c_ulonglong, usize, c_int, c_ulonglong);
    describe: "cuGetErrorString"(Status, *mut *const c_char);
}

/// The driver.
pub(crate) struct Cuda {
    functions: Functions,
    // The functions are its.
    _library: Library,
}

/// A GPU in use.
pub(crate) struct Device<'a> {
    cuda: &'a Cuda,
    number: c_int,
    address: PciAddress,
}

/// Memory of a GPU.
pub(crate) struct Memory<'a> {
    device: &'a Device<'a>,
    at: c_ulonglong,
    size: usize,
}

impl Cuda {
    /// Loads the driver.
    pub(crate) fn load() -> Result<Self> {
        // SAFETY: the driver's library is made to be loaded at any time; loading it runs no more than its constructors.
        let library = unsafe { Library::new("libcuda.so.1") }
            .context("libcuda.so.1 isn't found: it comes with NVIDIA's driver (Debian: libcuda1)")?;
        let cuda = Self { functions: Functions::find(&library)?, _library: library };
        // SAFETY: no flags are defined.
        cuda.check("cuInit", unsafe { (cuda.functions.init)(0) })?;
        Ok(cuda)
    }

    /// Takes a GPU into use, in the context that all of the process shares.
    pub(crate) fn device(&self, index: c_int) -> Result<Device<'_>> {
        let (mut number, mut supported) = (0, 0);
        // SAFETY: the call writes one number.
        self.check("cuDeviceGet", unsafe { (self.functions.get)(&raw mut number, index) })?;
        // SAFETY: the call writes one number.
        let asked = unsafe { (self.functions.attribute)(&raw mut supported, DMA_BUF_SUPPORTED, number) };
        self.check("cuDeviceGetAttribute", asked)?;
        ensure!(
            supported != 0,
            "the GPU exports no dma-bufs: that takes the open kernel modules (nvidia-open) and Linux 5.12 or newer"
        );
        let mut text = [0; 16];
        // SAFETY: the call writes at most 16 bytes, a final zero among them.
        let asked = unsafe { (self.functions.bus_id)(text.as_mut_ptr(), 16, number) };
        self.check("cuDeviceGetPCIBusId", asked)?;
        // SAFETY: the call has ended it with a zero.
        let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_str()?.to_lowercase();
        let address = text.parse().context("what cuDeviceGetPCIBusId said")?;
        let mut context = ptr::null_mut();
        // SAFETY: the call writes one handle.
        let retained = unsafe { (self.functions.retain)(&raw mut context, number) };
        self.check("cuDevicePrimaryCtxRetain", retained)?;
        let device = Device { cuda: self, number, address };
        // SAFETY: the context was just retained, and is until the device is dropped.
        self.check("cuCtxSetCurrent", unsafe { (self.functions.set_current)(context) })?;
        Ok(device)
    }

    fn check(&self, call: &str, status: Status) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: the call writes a pointer to a constant text, or null for an unknown status.
        let known = unsafe { (self.functions.describe)(status, &raw mut text) } == 0 && !text.is_null();
        // SAFETY: the driver's texts end in a zero and are never freed.
        let text = known.then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned());
        bail!("{call}: {} (status {status})", text.as_deref().unwrap_or("no description"))
    }
}

impl Device<'_> {
    pub(crate) fn address(&self) -> PciAddress {
        self.address
    }

    pub(crate) fn allocate(&self, size: ByteLen) -> Result<Memory<'_>> {
        let size = size.to_usize().context("more than this process can address")?;
        let (mut at, on) = (0, 1_u32);
        // SAFETY: the call writes one address.
        let allocated = unsafe { (self.cuda.functions.allocate)(&raw mut at, size) };
        self.cuda.check("cuMemAlloc", allocated)?;
        let memory = Memory { device: self, at, size };
        // SAFETY: this attribute is an unsigned number.
        let set = unsafe { (self.cuda.functions.set_attribute)((&raw const on).cast(), SYNC_MEMOPS, at) };
        self.cuda.check("cuPointerSetAttribute", set)?;
        Ok(memory)
    }
}

impl Memory<'_> {
    /// All of it as a dma-buf.
    pub(crate) fn export(&self) -> Result<OwnedFd> {
        let cuda = self.device.cuda;
        let mut fd: c_int = -1;
        let handle = (&raw mut fd).cast();
        // SAFETY: for this type of handle the call writes one descriptor.
        let exported = unsafe { (cuda.functions.export)(handle, self.at, self.size, DMA_BUF_FD, 0) };
        cuda.check("cuMemGetHandleForAddressRange", exported)?;
        ensure!(fd >= 0, "cuMemGetHandleForAddressRange gave no descriptor");
        // SAFETY: the call has opened it for its caller.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl Drop for Memory<'_> {
    fn drop(&mut self) {
        // SAFETY: it was allocated, and nobody has freed it.
        if let Err(error) =
            // SAFETY: see above.
            self.device.cuda.check("cuMemFree", unsafe { (self.device.cuda.functions.free)(self.at) })
        {
            eprintln!("{error}");
        }
    }
}

impl Drop for Device<'_> {
    fn drop(&mut self) {
        // SAFETY: it was retained once, and its memory is freed.
        let released = unsafe { (self.cuda.functions.release)(self.number) };
        if let Err(error) = self.cuda.check("cuDevicePrimaryCtxRelease", released) {
            eprintln!("{error}");
        }
    }
}
