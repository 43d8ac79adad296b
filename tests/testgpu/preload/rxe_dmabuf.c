/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * LD_PRELOAD library: ibv_reg_dmabuf_mr() for soft-RoCE.
 *
 * With peermem_testgpu loaded the kernel registers dma-bufs on rxe, but the rxe
 * provider of rdma-core doesn't know, and answers EOPNOTSUPP without asking.
 * This library takes the call, lets the provider answer first, and where that
 * was its answer sends the kernel the request that every other provider sends.
 *
 * The linker finds ibv_reg_dmabuf_mr() here before libibverbs for a program that
 * is linked with it, and for one that opens it at run time and looks symbols up
 * in the global scope (RTLD_DEFAULT), as peermem does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <infiniband/verbs.h>
#include <rdma/ib_user_ioctl_cmds.h>
#include <rdma/ib_user_ioctl_verbs.h>
#include <rdma/rdma_user_ioctl_cmds.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

typedef struct ibv_mr *reg_dmabuf_mr_fn(struct ibv_pd *, uint64_t, size_t, uint64_t, int, int);

/*
 * What ibv_dereg_mr() and the rxe provider take a memory region to be: struct
 * verbs_mr and enum ibv_mr_type of rdma-core's libibverbs/driver.h, unchanged
 * since dma-buf registration came (v34). The provider frees it with free().
 */
struct verbs_mr {
	struct ibv_mr ibv_mr;
	enum {
		IBV_MR_TYPE_MR,
		IBV_MR_TYPE_NULL_MR,
		IBV_MR_TYPE_IMPORTED_MR,
		IBV_MR_TYPE_DMABUF_MR,
	} mr_type;
	int access;
};

static struct ib_uverbs_attr attr_object(uint16_t id, uint32_t handle)
{
	return (struct ib_uverbs_attr){ .attr_id = id, .flags = UVERBS_ATTR_F_MANDATORY,
					.data = handle };
}

/* Values of up to 8 bytes travel in the attribute itself. */
static struct ib_uverbs_attr attr_in(uint16_t id, uint16_t len, uint64_t value)
{
	return (struct ib_uverbs_attr){ .attr_id = id, .len = len,
					.flags = UVERBS_ATTR_F_MANDATORY, .data = value };
}

static struct ib_uverbs_attr attr_out(uint16_t id, uint16_t len, void *to)
{
	return (struct ib_uverbs_attr){ .attr_id = id, .len = len,
					.flags = UVERBS_ATTR_F_MANDATORY,
					.data = (uintptr_t)to };
}

/* Sends one request as the rxe provider. EINVAL if the device is another driver's. */
static int rxe_ioctl(struct ibv_context *context, uint16_t object, uint16_t method,
		     struct ib_uverbs_attr *attrs, uint16_t num_attrs)
{
	size_t attrs_size = num_attrs * sizeof(*attrs);
	struct {
		struct ib_uverbs_ioctl_hdr header;
		struct ib_uverbs_attr attrs[9];
	} request = {
		.header = {
			.length = sizeof(request.header) + attrs_size,
			.object_id = object,
			.method_id = method,
			.num_attrs = num_attrs,
			.driver_id = RDMA_DRIVER_RXE,
		},
	};

	if (num_attrs)
		memcpy(request.attrs, attrs, attrs_size);
	if (ioctl(context->cmd_fd, RDMA_VERBS_IOCTL, &request))
		return -1;
	if (num_attrs)
		memcpy(attrs, request.attrs, attrs_size);
	return 0;
}

/*
 * Asks a question without content: the kernel compares the driver before all
 * else (EINVAL), and rxe may well have no answer to the rest (EOPNOTSUPP).
 */
static int is_rxe(struct ibv_context *context)
{
	return !rxe_ioctl(context, UVERBS_OBJECT_DEVICE, UVERBS_METHOD_QUERY_CONTEXT, NULL, 0) ||
	       errno != EINVAL;
}

static struct ibv_mr *rxe_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length,
					uint64_t iova, int fd, int access)
{
	struct verbs_mr *mr = calloc(1, sizeof(*mr));

	if (!mr)
		return NULL;

	struct ib_uverbs_attr attrs[] = {
		attr_object(UVERBS_ATTR_REG_DMABUF_MR_HANDLE, 0),
		attr_object(UVERBS_ATTR_REG_DMABUF_MR_PD_HANDLE, pd->handle),
		attr_in(UVERBS_ATTR_REG_DMABUF_MR_OFFSET, sizeof(uint64_t), offset),
		attr_in(UVERBS_ATTR_REG_DMABUF_MR_LENGTH, sizeof(uint64_t), length),
		attr_in(UVERBS_ATTR_REG_DMABUF_MR_IOVA, sizeof(uint64_t), iova),
		attr_in(UVERBS_ATTR_REG_DMABUF_MR_FD, sizeof(uint32_t), (uint32_t)fd),
		attr_in(UVERBS_ATTR_REG_DMABUF_MR_ACCESS_FLAGS, sizeof(uint32_t),
			(uint32_t)access),
		attr_out(UVERBS_ATTR_REG_DMABUF_MR_RESP_LKEY, sizeof(mr->ibv_mr.lkey),
			 &mr->ibv_mr.lkey),
		attr_out(UVERBS_ATTR_REG_DMABUF_MR_RESP_RKEY, sizeof(mr->ibv_mr.rkey),
			 &mr->ibv_mr.rkey),
	};

	if (rxe_ioctl(pd->context, UVERBS_OBJECT_MR, UVERBS_METHOD_REG_DMABUF_MR, attrs,
		      ARRAY_SIZE(attrs))) {
		free(mr); /* keeps errno: glibc since 2.33 */
		return NULL;
	}

	mr->ibv_mr.context = pd->context;
	mr->ibv_mr.pd = pd;
	mr->ibv_mr.addr = (void *)(uintptr_t)offset; /* as rdma-core fills it in */
	mr->ibv_mr.length = length;
	mr->ibv_mr.handle = (uint32_t)attrs[0].data;
	mr->mr_type = IBV_MR_TYPE_DMABUF_MR;
	mr->access = access;
	return &mr->ibv_mr;
}

/* Not RTLD_NEXT: a library that the program opened by itself isn't next to us. */
static reg_dmabuf_mr_fn *real_reg_dmabuf_mr(void)
{
	void *libibverbs = dlopen("libibverbs.so.1", RTLD_NOLOAD | RTLD_LAZY);
	reg_dmabuf_mr_fn *real = NULL;

	if (libibverbs) {
		real = (reg_dmabuf_mr_fn *)dlvsym(libibverbs, "ibv_reg_dmabuf_mr",
						  "IBVERBS_1.12");
		dlclose(libibverbs); /* RTLD_NOLOAD took a reference */
	}
	return real;
}

struct ibv_mr *ibv_reg_dmabuf_mr(struct ibv_pd *pd, uint64_t offset, size_t length,
				 uint64_t iova, int fd, int access)
{
	reg_dmabuf_mr_fn *real = real_reg_dmabuf_mr();

	if (real) {
		struct ibv_mr *mr = real(pd, offset, length, iova, fd, access);

		if (mr || errno != EOPNOTSUPP)
			return mr;
	}
	if (!is_rxe(pd->context)) {
		errno = EOPNOTSUPP;
		return NULL;
	}
	return rxe_reg_dmabuf_mr(pd, offset, length, iova, fd, access);
}
