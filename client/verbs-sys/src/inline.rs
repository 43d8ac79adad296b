//! What `infiniband/verbs.h` defines as inline functions or macros: calls through the tables behind a context.
//!
//! As in C, functions that return `c_int` return 0 or a positive errno value, unless said otherwise.

use core::ffi::{c_int, c_uint, c_void};
use core::mem::offset_of;
use core::ptr;

use crate::{
    IBV_ACCESS_OPTIONAL_RANGE, Verbs, ibv_advise_mr_advice, ibv_context, ibv_cq, ibv_device_attr_ex,
    ibv_gid_entry, ibv_mr, ibv_pd, ibv_port_attr, ibv_qp, ibv_recv_wr, ibv_send_wr, ibv_sge, ibv_wc,
    verbs_context,
};

/// Posts a list of work requests to the send queue; `bad` receives the first one refused.
///
/// # Safety
///
/// As `ibv_post_send(3)`: `qp` is live, `wr` a well-formed list whose memory stays registered until completion.
#[inline]
pub unsafe fn ibv_post_send(qp: *mut ibv_qp, wr: *mut ibv_send_wr, bad: *mut *mut ibv_send_wr) -> c_int {
    // SAFETY: the caller vouches for the queue pair.
    let context = unsafe { (*qp).context };
    // SAFETY: a live queue pair points to its live context.
    let post = unsafe { (*context).ops.post_send };
    // SAFETY: the caller's contract is the provider's.
    post.map_or(libc::EOPNOTSUPP, |post| unsafe { post(qp, wr, bad) })
}

/// Posts a list of work requests to the receive queue; `bad` receives the first one refused.
///
/// # Safety
///
/// As `ibv_post_recv(3)`: `qp` is live, `wr` a well-formed list whose memory stays registered until completion.
#[inline]
pub unsafe fn ibv_post_recv(qp: *mut ibv_qp, wr: *mut ibv_recv_wr, bad: *mut *mut ibv_recv_wr) -> c_int {
    // SAFETY: the caller vouches for the queue pair.
    let context = unsafe { (*qp).context };
    // SAFETY: a live queue pair points to its live context.
    let post = unsafe { (*context).ops.post_recv };
    // SAFETY: the caller's contract is the provider's.
    post.map_or(libc::EOPNOTSUPP, |post| unsafe { post(qp, wr, bad) })
}

/// Takes up to `count` completions; returns how many, or a negative number on failure.
///
/// # Safety
///
/// As `ibv_poll_cq(3)`: `cq` is live and `wc` has room for `count` entries.
#[inline]
pub unsafe fn ibv_poll_cq(cq: *mut ibv_cq, count: c_int, wc: *mut ibv_wc) -> c_int {
    // SAFETY: the caller vouches for the completion queue.
    let context = unsafe { (*cq).context };
    // SAFETY: a live completion queue points to its live context.
    let poll = unsafe { (*context).ops.poll_cq };
    // SAFETY: the caller's contract is the provider's.
    poll.map_or(-libc::EOPNOTSUPP, |poll| unsafe { poll(cq, count, wc) })
}

/// Asks for an event on the completion channel at the next completion.
///
/// # Safety
///
/// As `ibv_req_notify_cq(3)`: `cq` is live.
#[inline]
pub unsafe fn ibv_req_notify_cq(cq: *mut ibv_cq, solicited_only: c_int) -> c_int {
    // SAFETY: the caller vouches for the completion queue.
    let context = unsafe { (*cq).context };
    // SAFETY: a live completion queue points to its live context.
    let notify = unsafe { (*context).ops.req_notify_cq };
    // SAFETY: the caller's contract is the provider's.
    notify.map_or(libc::EOPNOTSUPP, |notify| unsafe { notify(cq, solicited_only) })
}

/// Registers host memory. Optional access flags exist only in `ibv_reg_mr_iova2`, which drops those that the kernel
/// doesn't know; where rdma-core is older than that function they are dropped here.
///
/// # Safety
///
/// As `ibv_reg_mr(3)`: `pd` is live, the range stays mapped until the region is deregistered.
pub unsafe fn ibv_reg_mr(
    verbs: &Verbs,
    pd: *mut ibv_pd,
    address: *mut c_void,
    length: usize,
    access: c_uint,
) -> *mut ibv_mr {
    if let Some(reg_mr_iova2) = verbs.ibv_reg_mr_iova2
        && access & IBV_ACCESS_OPTIONAL_RANGE != 0
    {
        // SAFETY: the caller's contract is the library's.
        return unsafe { reg_mr_iova2(pd, address, length, address as u64, access) };
    }
    let mandatory = (access & !IBV_ACCESS_OPTIONAL_RANGE).cast_signed();
    // SAFETY: the caller's contract is the library's.
    unsafe { (verbs.ibv_reg_mr)(pd, address, length, mandatory) }
}

/// Gives advice about ranges of on-demand memory regions.
///
/// # Safety
///
/// As `ibv_advise_mr(3)`: `pd` is live and `sges` has `count` entries.
pub unsafe fn ibv_advise_mr(
    pd: *mut ibv_pd,
    advice: ibv_advise_mr_advice,
    flags: u32,
    sges: *mut ibv_sge,
    count: u32,
) -> c_int {
    // SAFETY: a live protection domain points to its live context.
    let context = unsafe { (*pd).context };
    // SAFETY: as above.
    let table = unsafe { extended(context, offset_of!(verbs_context, advise_mr)) };
    // SAFETY: the table reaches as far as the field.
    let advise = table.and_then(|table| unsafe { (*table).advise_mr });
    // SAFETY: the caller's contract is the provider's.
    advise.map_or(libc::EOPNOTSUPP, |advise| unsafe { advise(pd, advice, flags, sges, count) })
}

/// Asks for a port's attributes; `attributes` is overwritten.
///
/// # Safety
///
/// As `ibv_query_port(3)`: `context` is live.
pub unsafe fn ibv_query_port(
    verbs: &Verbs,
    context: *mut ibv_context,
    port: u8,
    attributes: &mut ibv_port_attr,
) -> c_int {
    *attributes = ibv_port_attr::zeroed();
    // SAFETY: the caller vouches for the context.
    let table = unsafe { extended(context, offset_of!(verbs_context, query_port)) };
    // SAFETY: the table reaches as far as the field.
    let query = table.and_then(|table| unsafe { (*table).query_port });
    match query {
        // SAFETY: `attributes` has the size that is passed.
        Some(query) => unsafe { query(context, port, attributes, size_of::<ibv_port_attr>()) },
        // SAFETY: the exported function writes a prefix of `attributes`.
        None => unsafe { (verbs.ibv_query_port)(context, port, attributes) },
    }
}

/// Asks for a device's extended attributes; `attributes` is overwritten. Where the provider has no extended query, all
/// but `orig_attr` stay zero, which reads as "no such capability".
///
/// # Safety
///
/// As `ibv_query_device_ex(3)`: `context` is live.
pub unsafe fn ibv_query_device_ex(
    verbs: &Verbs,
    context: *mut ibv_context,
    attributes: &mut ibv_device_attr_ex,
) -> c_int {
    *attributes = ibv_device_attr_ex::zeroed();
    // SAFETY: the caller vouches for the context.
    let table = unsafe { extended(context, offset_of!(verbs_context, query_device_ex)) };
    // SAFETY: the table reaches as far as the field.
    let query = table.and_then(|table| unsafe { (*table).query_device_ex });
    if let Some(query) = query {
        // SAFETY: `attributes` has the size that is passed; a null input means no extensions.
        let status = unsafe { query(context, ptr::null(), attributes, size_of::<ibv_device_attr_ex>()) };
        if status != libc::EOPNOTSUPP && status != libc::ENOSYS {
            return status;
        }
        *attributes = ibv_device_attr_ex::zeroed();
    }
    // SAFETY: the caller's contract is the library's.
    unsafe { (verbs.ibv_query_device)(context, &raw mut attributes.orig_attr) }
}

/// Reads all valid entries of every port's GID table; returns their number or a negative errno value, `None` where
/// rdma-core is older than the function.
///
/// # Safety
///
/// `context` is live.
pub unsafe fn ibv_query_gid_table(
    verbs: &Verbs,
    context: *mut ibv_context,
    entries: &mut [ibv_gid_entry],
) -> Option<isize> {
    let query = verbs._ibv_query_gid_table?;
    // SAFETY: `entries` has the number and size of entries that are passed.
    Some(unsafe { query(context, entries.as_mut_ptr(), entries.len(), 0, size_of::<ibv_gid_entry>()) })
}

/// The extended table around `context`, if this provider has one that reaches as far as the field at `offset`. The table
/// grows at its front, so its own size says which fields it has.
///
/// # Safety
///
/// `context` is live.
unsafe fn extended(context: *mut ibv_context, offset: usize) -> Option<*const verbs_context> {
    /// What `abi_compat` holds when the context lies inside a `verbs_context`.
    const VERBS_ABI_IS_EXTENDED: usize = usize::MAX;
    // SAFETY: the caller vouches for the context.
    if unsafe { (*context).abi_compat } as usize != VERBS_ABI_IS_EXTENDED {
        return None;
    }
    let table = context.wrapping_byte_sub(offset_of!(verbs_context, context)).cast::<verbs_context>();
    // SAFETY: an extended context is preceded at least by `sz`.
    let size = unsafe { (*table).sz };
    (size >= size_of::<verbs_context>() - offset).then_some(table.cast_const())
}
