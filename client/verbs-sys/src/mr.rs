//! Protection domains and memory regions.

use core::ffi::{c_uint, c_void};

use crate::ibv_context;

abi! {
    enum ibv_advise_mr_advice: c_uint {
        IBV_ADVISE_MR_ADVICE_PREFETCH = 0,
        IBV_ADVISE_MR_ADVICE_PREFETCH_WRITE = 1,
        IBV_ADVISE_MR_ADVICE_PREFETCH_NO_FAULT = 2,
    }

    const IBV_ADVISE_MR_FLAG_FLUSH: u32 = 1;
    const IBV_ACCESS_LOCAL_WRITE: c_uint = 1 << 0;
    const IBV_ACCESS_REMOTE_WRITE: c_uint = 1 << 1;
    const IBV_ACCESS_REMOTE_READ: c_uint = 1 << 2;
    const IBV_ACCESS_REMOTE_ATOMIC: c_uint = 1 << 3;
    const IBV_ACCESS_ON_DEMAND: c_uint = 1 << 6;
    const IBV_ACCESS_RELAXED_ORDERING: c_uint = 1 << 20;
    const IBV_ACCESS_OPTIONAL_RANGE: c_uint = 0x3ff0_0000;

    record struct ibv_pd { context: *mut ibv_context, handle: u32 }

    record struct ibv_mr {
        context: *mut ibv_context,
        pd: *mut ibv_pd,
        addr: *mut c_void,
        length: usize,
        handle: u32,
        lkey: u32,
        rkey: u32,
    }
}
