//! Devices and contexts, and the tables of functions behind a context.

use core::ffi::{c_char, c_int, c_void};

use libc::pthread_mutex_t;

use crate::{
    ibv_advise_mr_advice, ibv_cq, ibv_device_attr_ex, ibv_pd, ibv_port_attr, ibv_qp, ibv_query_device_ex_input,
    ibv_recv_wr, ibv_send_wr, ibv_sge, ibv_wc,
};

/// A function pointer that this crate doesn't call; only its size matters.
pub type Slot = Option<unsafe extern "C" fn()>;

/// Owned by the library; only pointers to it are seen.
#[repr(C)]
pub struct verbs_ex_private {
    opaque: [u8; 0],
}

abi! {
    enum ibv_node_type: c_int {
        IBV_NODE_UNKNOWN = -1, IBV_NODE_CA = 1, IBV_NODE_SWITCH = 2, IBV_NODE_ROUTER = 3, IBV_NODE_RNIC = 4,
        IBV_NODE_USNIC = 5, IBV_NODE_USNIC_UDP = 6, IBV_NODE_UNSPECIFIED = 7,
    }
    enum ibv_transport_type: c_int {
        IBV_TRANSPORT_UNKNOWN = -1, IBV_TRANSPORT_IB = 0, IBV_TRANSPORT_IWARP = 1, IBV_TRANSPORT_USNIC = 2,
        IBV_TRANSPORT_USNIC_UDP = 3, IBV_TRANSPORT_UNSPECIFIED = 4,
    }

    const IBV_SYSFS_NAME_MAX: usize = 64;
    const IBV_SYSFS_PATH_MAX: usize = 256;

    record struct _ibv_device_ops { _dummy1: Slot, _dummy2: Slot }

    record struct ibv_device {
        _ops: _ibv_device_ops,
        node_type: ibv_node_type,
        transport_type: ibv_transport_type,
        name: [c_char; 64],
        dev_name: [c_char; 64],
        dev_path: [c_char; 256],
        ibdev_path: [c_char; 256],
    }

    record struct ibv_context_ops {
        _compat_query_device: Slot,
        _compat_query_port: Slot,
        _compat_alloc_pd: Slot,
        _compat_dealloc_pd: Slot,
        _compat_reg_mr: Slot,
        _compat_rereg_mr: Slot,
        _compat_dereg_mr: Slot,
        alloc_mw: Slot,
        bind_mw: Slot,
        dealloc_mw: Slot,
        _compat_create_cq: Slot,
        poll_cq: Option<unsafe extern "C" fn(*mut ibv_cq, c_int, *mut ibv_wc) -> c_int>,
        req_notify_cq: Option<unsafe extern "C" fn(*mut ibv_cq, c_int) -> c_int>,
        _compat_cq_event: Slot,
        _compat_resize_cq: Slot,
        _compat_destroy_cq: Slot,
        _compat_create_srq: Slot,
        _compat_modify_srq: Slot,
        _compat_query_srq: Slot,
        _compat_destroy_srq: Slot,
        post_srq_recv: Slot,
        _compat_create_qp: Slot,
        _compat_query_qp: Slot,
        _compat_modify_qp: Slot,
        _compat_destroy_qp: Slot,
        post_send: Option<unsafe extern "C" fn(*mut ibv_qp, *mut ibv_send_wr, *mut *mut ibv_send_wr) -> c_int>,
        post_recv: Option<unsafe extern "C" fn(*mut ibv_qp, *mut ibv_recv_wr, *mut *mut ibv_recv_wr) -> c_int>,
        _compat_create_ah: Slot,
        _compat_destroy_ah: Slot,
        _compat_attach_mcast: Slot,
        _compat_detach_mcast: Slot,
        _compat_async_event: Slot,
    }

    record struct ibv_context {
        device: *mut ibv_device,
        ops: ibv_context_ops,
        cmd_fd: c_int,
        async_fd: c_int,
        num_comp_vectors: c_int,
        mutex: pthread_mutex_t,
        abi_compat: *mut c_void,
    }

    record struct verbs_context: grows_down {
        query_port: Option<unsafe extern "C" fn(*mut ibv_context, u8, *mut ibv_port_attr, usize) -> c_int>,
        advise_mr: Option<unsafe extern "C" fn(*mut ibv_pd, ibv_advise_mr_advice, u32, *mut ibv_sge, u32) -> c_int>,
        alloc_null_mr: Slot,
        read_counters: Slot,
        attach_counters_point_flow: Slot,
        create_counters: Slot,
        destroy_counters: Slot,
        reg_dm_mr: Slot,
        alloc_dm: Slot,
        free_dm: Slot,
        modify_flow_action_esp: Slot,
        destroy_flow_action: Slot,
        create_flow_action_esp: Slot,
        modify_qp_rate_limit: Slot,
        alloc_parent_domain: Slot,
        dealloc_td: Slot,
        alloc_td: Slot,
        modify_cq: Slot,
        post_srq_ops: Slot,
        destroy_rwq_ind_table: Slot,
        create_rwq_ind_table: Slot,
        destroy_wq: Slot,
        modify_wq: Slot,
        create_wq: Slot,
        query_rt_values: Slot,
        create_cq_ex: Slot,
        r#priv: *mut verbs_ex_private,
        query_device_ex: Option<unsafe extern "C" fn(
            *mut ibv_context, *const ibv_query_device_ex_input, *mut ibv_device_attr_ex, usize
        ) -> c_int>,
        ibv_destroy_flow: Slot,
        ABI_placeholder2: Slot,
        ibv_create_flow: Slot,
        ABI_placeholder1: Slot,
        open_qp: Slot,
        create_qp_ex: Slot,
        get_srq_num: Slot,
        create_srq_ex: Slot,
        open_xrcd: Slot,
        close_xrcd: Slot,
        _ABI_placeholder3: u64,
        sz: usize,
        context: ibv_context,
    }
}
