//! Stands in for libcuda: says which functions are called, in their order, and gives a memfd for a dma-buf.
#![allow(non_snake_case, missing_docs)]

use std::{
    ffi::{c_char, c_int, c_uint, c_ulonglong, c_void},
    fs::File,
    io::Write as _,
    os::fd::IntoRawFd as _,
};

fn called(what: &str) -> c_int {
    let path = std::env::var_os("PEERMEM_TEST_CALLS").unwrap();
    writeln!(File::options().create(true).append(true).open(path).unwrap(), "{what}").unwrap();
    0
}

#[unsafe(no_mangle)]
extern "C" fn cuInit(_: c_uint) -> c_int {
    called("cuInit")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGet(device: *mut c_int, index: c_int) -> c_int {
    unsafe { *device = index + 5 };
    called("cuDeviceGet")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetAttribute(value: *mut c_int, attribute: c_int, device: c_int) -> c_int {
    unsafe { *value = c_int::from(attribute == 124 && device == 5) };
    called("cuDeviceGetAttribute")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetPCIBusId(text: *mut c_char, length: c_int, _: c_int) -> c_int {
    assert!(length >= 13);
    unsafe { c"0000:3B:00.0".as_ptr().copy_to(text, 13) };
    called("cuDeviceGetPCIBusId")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuDevicePrimaryCtxRetain(context: *mut *mut c_void, _: c_int) -> c_int {
    unsafe { *context = std::ptr::without_provenance_mut(7) };
    called("cuDevicePrimaryCtxRetain")
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: c_int) -> c_int {
    assert_eq!(device, 5);
    called("cuDevicePrimaryCtxRelease")
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: *mut c_void) -> c_int {
    assert_eq!(context.addr(), 7);
    called("cuCtxSetCurrent")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAlloc_v2(at: *mut c_ulonglong, size: usize) -> c_int {
    unsafe { *at = 0x7f00_0020_0000 };
    called(&format!("cuMemAlloc {size}"))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(at: c_ulonglong) -> c_int {
    assert_eq!(at, 0x7f00_0020_0000);
    called("cuMemFree")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuPointerSetAttribute(value: *const c_void, attribute: c_int, _: c_ulonglong) -> c_int {
    assert_eq!((unsafe { *value.cast::<c_uint>() }, attribute), (1, 6));
    called("cuPointerSetAttribute")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemGetHandleForAddressRange(
    handle: *mut c_void,
    at: c_ulonglong,
    size: usize,
    kind: c_int,
    flags: c_ulonglong,
) -> c_int {
    assert_eq!((at, kind, flags), (0x7f00_0020_0000, 1, 0));
    // No dma-buf, but something to close.
    unsafe { *handle.cast::<c_int>() = File::open("/dev/null").unwrap().into_raw_fd() };
    called(&format!("cuMemGetHandleForAddressRange {size}"))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(_: c_int, text: *mut *const c_char) -> c_int {
    unsafe { *text = c"any".as_ptr() };
    0
}
