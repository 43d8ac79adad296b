/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* One soft-RoCE device, two reliable connections between its own queue pairs. */
#include <time.h>

#include "selftest.h"

/* The first device that can register dma-bufs at all: -1 as fd is the usual question. */
static struct ibv_context *open_device(void)
{
	int n = 0;
	struct ibv_device **list = ibv_get_device_list(&n);

	for (int i = 0; list && i < n; i++) {
		struct ibv_context *context = ibv_open_device(list[i]);
		struct ibv_pd *pd = context ? ibv_alloc_pd(context) : NULL;
		int found = pd && !ibv_reg_dmabuf_mr(pd, 0, PAGE, 0, -1, ACCESS_ALL) &&
			    errno == EBADF;

		if (pd)
			ibv_dealloc_pd(pd);
		if (found) {
			ibv_free_device_list(list);
			return context;
		}
		if (context)
			ibv_close_device(context);
	}
	return NULL;
}

/* An address that leaves by the device's own Ethernet port: the IPv4-mapped one. */
static int ipv4_gid(struct ibv_context *context, union ibv_gid *gid)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	for (int i = 0; !ibv_query_gid(context, 1, i, gid); i++)
		if (!memcmp(gid->raw, mapped, sizeof(mapped)))
			return i;
	return -1;
}

static struct ibv_qp *create_qp(struct loopback *loop)
{
	struct ibv_qp_init_attr init = {
		.send_cq = loop->cq,
		.recv_cq = loop->cq,
		.cap = { .max_send_wr = 16, .max_recv_wr = 16,
			 .max_send_sge = 1, .max_recv_sge = 1 },
		.qp_type = IBV_QPT_RC,
		.sq_sig_all = 1,
	};
	struct ibv_qp *qp = ibv_create_qp(loop->pd, &init);

	EXPECT(qp);
	return qp;
}

static void connect_qp(struct ibv_context *context, struct ibv_qp *qp, uint32_t peer)
{
	struct ibv_port_attr port;
	struct ibv_qp_attr init = {
		.qp_state = IBV_QPS_INIT,
		.port_num = 1,
		.qp_access_flags = ACCESS_ALL,
	};
	struct ibv_qp_attr rtr = {
		.qp_state = IBV_QPS_RTR,
		.dest_qp_num = peer,
		.max_dest_rd_atomic = 1,
		.min_rnr_timer = 12,
		.ah_attr = { .is_global = 1, .port_num = 1, .grh.hop_limit = 64 },
	};
	struct ibv_qp_attr rts = {
		.qp_state = IBV_QPS_RTS,
		.timeout = 14,
		.retry_cnt = 7,
		.rnr_retry = 7,
		.max_rd_atomic = 1,
	};
	int gid_index = ipv4_gid(context, &rtr.ah_attr.grh.dgid);

	EXPECT(gid_index >= 0);
	EXPECT(!ibv_query_port(context, 1, &port));
	rtr.ah_attr.grh.sgid_index = (uint8_t)gid_index;
	rtr.path_mtu = port.active_mtu;

	EXPECT(!ibv_modify_qp(qp, &init, IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT |
			      IBV_QP_ACCESS_FLAGS));
	EXPECT(!ibv_modify_qp(qp, &rtr, IBV_QP_STATE | IBV_QP_AV | IBV_QP_PATH_MTU |
			      IBV_QP_DEST_QPN | IBV_QP_RQ_PSN | IBV_QP_MAX_DEST_RD_ATOMIC |
			      IBV_QP_MIN_RNR_TIMER));
	EXPECT(!ibv_modify_qp(qp, &rts, IBV_QP_STATE | IBV_QP_TIMEOUT | IBV_QP_RETRY_CNT |
			      IBV_QP_RNR_RETRY | IBV_QP_SQ_PSN | IBV_QP_MAX_QP_RD_ATOMIC));
}

struct loopback loopback_open(void)
{
	struct loopback loop = { .context = open_device() };

	EXPECT(loop.context);
	EXPECT((loop.pd = ibv_alloc_pd(loop.context)));
	EXPECT((loop.cq = ibv_create_cq(loop.context, 64, NULL, NULL, 0)));
	loop.near = create_qp(&loop);
	loop.far = create_qp(&loop);
	connect_qp(loop.context, loop.near, loop.far->qp_num);
	connect_qp(loop.context, loop.far, loop.near->qp_num);
	return loop;
}

/* Fails if anything of the protection domain is left. */
void loopback_close(struct loopback *loop)
{
	EXPECT(!ibv_destroy_qp(loop->near));
	EXPECT(!ibv_destroy_qp(loop->far));
	EXPECT(!ibv_destroy_cq(loop->cq));
	EXPECT(!ibv_dealloc_pd(loop->pd));
	EXPECT(!ibv_close_device(loop->context));
}

/* Posts one request on the near end and waits for it, 30 s at most. */
enum ibv_wc_status loopback_run(struct loopback *loop, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	struct ibv_wc wc;
	time_t deadline = time(NULL) + 30;
	int n;

	EXPECT(!ibv_post_send(loop->near, wr, &bad));
	do {
		n = ibv_poll_cq(loop->cq, 1, &wc);
	} while (n == 0 && time(NULL) < deadline);
	EXPECT(n == 1);
	return wc.status;
}

enum ibv_wc_status loopback_copy(struct loopback *loop, enum ibv_wr_opcode opcode,
				 struct ibv_sge local, uint64_t remote_addr, uint32_t rkey)
{
	struct ibv_send_wr wr = {
		.sg_list = &local,
		.num_sge = 1,
		.opcode = opcode,
		.wr.rdma = { .remote_addr = remote_addr, .rkey = rkey },
	};

	return loopback_run(loop, &wr);
}
