//! Queue pairs, their attributes and the path to a peer.

use core::ffi::{c_int, c_uint, c_void};

use libc::{pthread_cond_t, pthread_mutex_t};

use crate::{ibv_context, ibv_cq, ibv_gid, ibv_mtu, ibv_pd, ibv_srq};

abi! {
    enum ibv_qp_type: c_uint { IBV_QPT_RC = 2, IBV_QPT_UC = 3, IBV_QPT_UD = 4 }
    enum ibv_qp_state: c_uint {
        IBV_QPS_RESET = 0, IBV_QPS_INIT = 1, IBV_QPS_RTR = 2, IBV_QPS_RTS = 3, IBV_QPS_SQD = 4, IBV_QPS_SQE = 5,
        IBV_QPS_ERR = 6, IBV_QPS_UNKNOWN = 7,
    }
    enum ibv_mig_state: c_uint { IBV_MIG_MIGRATED = 0, IBV_MIG_REARM = 1, IBV_MIG_ARMED = 2 }

    const IBV_QP_STATE: c_int = 1 << 0;
    const IBV_QP_ACCESS_FLAGS: c_int = 1 << 3;
    const IBV_QP_PKEY_INDEX: c_int = 1 << 4;
    const IBV_QP_PORT: c_int = 1 << 5;
    const IBV_QP_AV: c_int = 1 << 7;
    const IBV_QP_PATH_MTU: c_int = 1 << 8;
    const IBV_QP_TIMEOUT: c_int = 1 << 9;
    const IBV_QP_RETRY_CNT: c_int = 1 << 10;
    const IBV_QP_RNR_RETRY: c_int = 1 << 11;
    const IBV_QP_RQ_PSN: c_int = 1 << 12;
    const IBV_QP_MAX_QP_RD_ATOMIC: c_int = 1 << 13;
    const IBV_QP_MIN_RNR_TIMER: c_int = 1 << 15;
    const IBV_QP_SQ_PSN: c_int = 1 << 16;
    const IBV_QP_MAX_DEST_RD_ATOMIC: c_int = 1 << 17;
    const IBV_QP_CAP: c_int = 1 << 19;
    const IBV_QP_DEST_QPN: c_int = 1 << 20;

    record struct ibv_qp_cap {
        max_send_wr: u32,
        max_recv_wr: u32,
        max_send_sge: u32,
        max_recv_sge: u32,
        max_inline_data: u32,
    }

    record struct ibv_qp_init_attr {
        qp_context: *mut c_void,
        send_cq: *mut ibv_cq,
        recv_cq: *mut ibv_cq,
        srq: *mut ibv_srq,
        cap: ibv_qp_cap,
        qp_type: ibv_qp_type,
        sq_sig_all: c_int,
    }

    record struct ibv_global_route {
        dgid: ibv_gid,
        flow_label: u32,
        sgid_index: u8,
        hop_limit: u8,
        traffic_class: u8,
    }

    record struct ibv_ah_attr {
        grh: ibv_global_route,
        dlid: u16,
        sl: u8,
        src_path_bits: u8,
        static_rate: u8,
        is_global: u8,
        port_num: u8,
    }

    record struct ibv_qp_attr {
        qp_state: ibv_qp_state,
        cur_qp_state: ibv_qp_state,
        path_mtu: ibv_mtu,
        path_mig_state: ibv_mig_state,
        qkey: u32,
        rq_psn: u32,
        sq_psn: u32,
        dest_qp_num: u32,
        qp_access_flags: c_uint,
        cap: ibv_qp_cap,
        ah_attr: ibv_ah_attr,
        alt_ah_attr: ibv_ah_attr,
        pkey_index: u16,
        alt_pkey_index: u16,
        en_sqd_async_notify: u8,
        sq_draining: u8,
        max_rd_atomic: u8,
        max_dest_rd_atomic: u8,
        min_rnr_timer: u8,
        port_num: u8,
        timeout: u8,
        retry_cnt: u8,
        rnr_retry: u8,
        alt_port_num: u8,
        alt_timeout: u8,
        rate_limit: u32,
    }

    record struct ibv_qp {
        context: *mut ibv_context,
        qp_context: *mut c_void,
        pd: *mut ibv_pd,
        send_cq: *mut ibv_cq,
        recv_cq: *mut ibv_cq,
        srq: *mut ibv_srq,
        handle: u32,
        qp_num: u32,
        state: ibv_qp_state,
        qp_type: ibv_qp_type,
        mutex: pthread_mutex_t,
        cond: pthread_cond_t,
        events_completed: u32,
    }
}
