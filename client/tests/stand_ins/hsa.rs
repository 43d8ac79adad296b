//! Stands in for libhsa-runtime64: a CPU, a GPU with two pools; says which functions are called, in their order.
#![allow(missing_docs)]

use std::{
    ffi::{c_int, c_void},
    fs::File,
    io::Write as _,
    os::fd::IntoRawFd as _,
};

type Callback = unsafe extern "C" fn(u64, *mut c_void) -> c_int;

fn called(what: &str) -> c_int {
    let path = std::env::var_os("PEERMEM_TEST_CALLS").unwrap();
    writeln!(File::options().create(true).append(true).open(path).unwrap(), "{what}").unwrap();
    0
}

#[unsafe(no_mangle)]
extern "C" fn hsa_init() -> c_int {
    called("hsa_init")
}

#[unsafe(no_mangle)]
extern "C" fn hsa_shut_down() -> c_int {
    called("hsa_shut_down")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_iterate_agents(callback: Callback, data: *mut c_void) -> c_int {
    // A CPU and a GPU.
    for agent in [1, 2] {
        unsafe { callback(agent, data) };
    }
    called("hsa_iterate_agents")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_agent_get_info(agent: u64, what: c_int, value: *mut c_void) -> c_int {
    let answer = match what {
        17 => c_int::from(agent == 2),
        0xa006 => 0x3b08,
        0xa00f => 1,
        _ => panic!("{what}"),
    };
    unsafe { *value.cast::<c_int>() = answer };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_amd_agent_iterate_memory_pools(agent: u64, callback: Callback, data: *mut c_void) -> c_int {
    assert_eq!(agent, 2, "only the GPU's");
    for pool in [20, 21] {
        unsafe { callback(pool, data) };
    }
    called("hsa_amd_agent_iterate_memory_pools")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_amd_memory_pool_get_info(pool: u64, what: c_int, value: *mut c_void) -> c_int {
    // Both are global; the second one is coarse-grained.
    let answer = if what == 1 && pool == 21 { 4 } else { 0 };
    unsafe { *value.cast::<c_int>() = answer };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_amd_memory_pool_allocate(pool: u64, size: usize, flags: u32, at: *mut *mut c_void) -> c_int {
    assert_eq!((pool, flags), (21, 0));
    unsafe { *at = std::ptr::without_provenance_mut(0x7f00_0020_0000) };
    called(&format!("hsa_amd_memory_pool_allocate {size}"))
}

#[unsafe(no_mangle)]
extern "C" fn hsa_amd_memory_pool_free(at: *mut c_void) -> c_int {
    assert_eq!(at.addr(), 0x7f00_0020_0000);
    called("hsa_amd_memory_pool_free")
}

#[unsafe(no_mangle)]
unsafe extern "C" fn hsa_amd_portable_export_dmabuf(at: *const c_void, size: usize, fd: *mut c_int, offset: *mut u64) -> c_int {
    assert_eq!(at.addr(), 0x7f00_0020_0000);
    // No dma-buf, but something to close.
    unsafe { *fd = File::open("/dev/null").unwrap().into_raw_fd() };
    unsafe { *offset = 0 };
    called(&format!("hsa_amd_portable_export_dmabuf {size}"))
}
