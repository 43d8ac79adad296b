//! Work requests.

use core::ffi::{c_int, c_uint};

use crate::{__be32, ibv_mr};

/// A memory window; only pointers to it are seen.
#[repr(C)]
pub struct ibv_mw {
    opaque: [u8; 0],
}

abi! {
    enum ibv_wr_opcode: c_uint {
        IBV_WR_RDMA_WRITE = 0, IBV_WR_RDMA_WRITE_WITH_IMM = 1, IBV_WR_SEND = 2, IBV_WR_SEND_WITH_IMM = 3,
        IBV_WR_RDMA_READ = 4,
    }

    const IBV_SEND_FENCE: c_uint = 1 << 0;
    const IBV_SEND_SIGNALED: c_uint = 1 << 1;
    const IBV_SEND_SOLICITED: c_uint = 1 << 2;
    const IBV_SEND_INLINE: c_uint = 1 << 3;

    record struct ibv_sge { addr: u64, length: u32, lkey: u32 }

    #[derive(Clone, Copy)]
    record struct ibv_send_wr_rdma = "__typeof__(((struct ibv_send_wr *)0)->wr.rdma)" { remote_addr: u64, rkey: u32 }

    #[derive(Clone, Copy)]
    record struct ibv_send_wr_atomic = "__typeof__(((struct ibv_send_wr *)0)->wr.atomic)" {
        remote_addr: u64,
        compare_add: u64,
        swap: u64,
        rkey: u32,
    }

    record union ibv_send_wr_wr = "__typeof__(((struct ibv_send_wr *)0)->wr)" {
        rdma: ibv_send_wr_rdma,
        atomic: ibv_send_wr_atomic,
    }

    record struct ibv_send_wr_xrc = "__typeof__(((struct ibv_send_wr *)0)->qp_type.xrc)" { remote_srqn: u32 }

    record struct ibv_send_wr_qp_type = "__typeof__(((struct ibv_send_wr *)0)->qp_type)" { xrc: ibv_send_wr_xrc }

    record struct ibv_mw_bind_info { mr: *mut ibv_mr, addr: u64, length: u64, mw_access_flags: c_uint }

    record struct ibv_send_wr_bind_mw = "__typeof__(((struct ibv_send_wr *)0)->bind_mw)" {
        mw: *mut ibv_mw,
        rkey: u32,
        bind_info: ibv_mw_bind_info,
    }

    record struct ibv_send_wr {
        wr_id: u64,
        next: *mut ibv_send_wr,
        sg_list: *mut ibv_sge,
        num_sge: c_int,
        opcode: ibv_wr_opcode,
        send_flags: c_uint,
        imm_data: __be32,
        wr: ibv_send_wr_wr,
        qp_type: ibv_send_wr_qp_type,
        bind_mw: ibv_send_wr_bind_mw,
    }

    record struct ibv_recv_wr { wr_id: u64, next: *mut ibv_recv_wr, sg_list: *mut ibv_sge, num_sge: c_int }
}
