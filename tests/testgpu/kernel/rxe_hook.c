// SPDX-License-Identifier: GPL-2.0
/*
 * Teaches soft-RoCE (rdma_rxe) to register dma-bufs of the test GPU, without a
 * change to it: adds the one device op it lacks, and wraps the one that ends a
 * memory region.
 *
 * ib_uverbs decides which methods a device offers when its own client is told
 * of the device, and clients are told in the order of their registration: load
 * this module before ib_uverbs.
 */
#include <linux/cred.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

#include "testgpu.h"

/**
 * struct hooked_device - an rxe device that was given our ops
 * @dereg_mr: the driver's own
 */
struct hooked_device {
	int (*dereg_mr)(struct ib_mr *mr, struct ib_udata *udata);
};

/**
 * struct hooked_mr - a memory region over a buffer
 * @node: in hooked_mrs, keyed by @mr
 * @mr: the driver's memory region, with the pages pinned
 * @buf: the buffer, whose dma-buf is held
 */
struct hooked_mr {
	struct hlist_node node;
	struct ib_mr *mr;
	struct testgpu_buf *buf;
};

static DEFINE_MUTEX(hooked_mrs_lock);
static DEFINE_HASHTABLE(hooked_mrs, 6);
static unsigned int nr_hooked_mrs;

static struct ib_client testgpu_ib_client;

/*
 * rxe compares every access with the length in the public struct ib_mr, which
 * is ours to set. With length 0 nothing fits any more.
 */
static void hooked_mr_kill(struct hooked_mr *hooked)
{
	WRITE_ONCE(hooked->mr->length, 0);
}

static void hooked_mr_insert(struct hooked_mr *hooked)
{
	mutex_lock(&hooked_mrs_lock);
	hash_add(hooked_mrs, &hooked->node, (unsigned long)hooked->mr);
	nr_hooked_mrs++;
	/* A reset sets the flag before it walks the table, so one of us sees the other. */
	if (READ_ONCE(hooked->buf->revoked))
		hooked_mr_kill(hooked);
	mutex_unlock(&hooked_mrs_lock);
}

static struct hooked_mr *hooked_mr_take(struct ib_mr *mr)
{
	struct hooked_mr *hooked;

	mutex_lock(&hooked_mrs_lock);
	hash_for_each_possible(hooked_mrs, hooked, node, (unsigned long)mr) {
		if (hooked->mr == mr) {
			hash_del(&hooked->node);
			nr_hooked_mrs--;
			goto out;
		}
	}
	hooked = NULL;
out:
	mutex_unlock(&hooked_mrs_lock);
	return hooked;
}

/**
 * testgpu_rxe_revoke - make the memory regions over a buffer useless
 * @buf: the buffer, marked as revoked before
 *
 * Return: how many there were.
 */
unsigned int testgpu_rxe_revoke(struct testgpu_buf *buf)
{
	struct hooked_mr *hooked;
	unsigned int bucket, killed = 0;

	mutex_lock(&hooked_mrs_lock);
	hash_for_each(hooked_mrs, bucket, hooked, node) {
		if (hooked->buf == buf) {
			hooked_mr_kill(hooked);
			killed++;
		}
	}
	mutex_unlock(&hooked_mrs_lock);
	return killed;
}

/**
 * testgpu_rxe_memory_regions - count the memory regions over all buffers
 *
 * Return: the number, dead ones included.
 */
unsigned int testgpu_rxe_memory_regions(void)
{
	return READ_ONCE(nr_hooked_mrs);
}

/*
 * A NIC that maps a dma-buf charges nothing to RLIMIT_MEMLOCK. rxe pins an
 * address range instead, which would be charged, so the limit is lifted.
 */
static struct ib_mr *reg_user_mr_unlimited(struct ib_pd *pd, u64 start, u64 length, u64 iova,
					   int access, struct ib_dmah *dmah,
					   struct ib_udata *udata)
{
	const struct cred *old;
	struct cred *cred;
	struct ib_mr *mr;

	cred = prepare_creds();
	if (!cred)
		return ERR_PTR(-ENOMEM);
	cap_raise(cred->cap_effective, CAP_IPC_LOCK);

	old = override_creds(cred);
	mr = pd->device->ops.reg_user_mr(pd, start, length, iova, access, dmah, udata);
	revert_creds(old);
	put_cred(cred);
	return mr;
}

static struct ib_mr *reg_buf(struct ib_pd *pd, struct testgpu_buf *buf, u64 offset, u64 length,
			     u64 iova, int access, struct ib_dmah *dmah,
			     struct ib_udata *udata)
{
	unsigned long addr;
	struct ib_mr *mr;
	size_t size;
	u64 end;

	if (!length || check_add_overflow(offset, length, &end) || end > buf->size)
		return ERR_PTR(-EINVAL);
	if (READ_ONCE(buf->revoked))
		return ERR_PTR(-ENODEV);

	size = PAGE_ALIGN(end) - (offset & PAGE_MASK);
	addr = testgpu_pages_map(buf, offset & PAGE_MASK, size);
	if (IS_ERR_VALUE(addr))
		return ERR_PTR((long)addr);
	mr = reg_user_mr_unlimited(pd, addr + offset_in_page(offset), length, iova, access,
				   dmah, udata);
	testgpu_pages_unmap(addr, size);
	if (IS_ERR(mr))
		return mr;

	/* For an address range the core sets these two; for a dma-buf the driver does. */
	mr->iova = iova;
	mr->length = length;
	return mr;
}

/*
 * The core has checked before that offset and iova agree within a page, and
 * that access has no IB_ACCESS_ON_DEMAND. The fd comes first, since programs
 * probe for dma-buf support with fd -1 and expect EBADF whatever the rest is.
 */
static struct ib_mr *testgpu_reg_user_mr_dmabuf(struct ib_pd *pd, u64 offset, u64 length,
						u64 iova, int fd, int access,
						struct ib_dmah *dmah,
						struct uverbs_attr_bundle *attrs)
{
	struct hooked_mr *hooked;
	struct dma_buf *dmabuf;
	struct ib_mr *mr;

	dmabuf = dma_buf_get(fd);
	if (IS_ERR(dmabuf))
		return ERR_CAST(dmabuf);

	hooked = kzalloc(sizeof(*hooked), GFP_KERNEL);
	if (!hooked) {
		mr = ERR_PTR(-ENOMEM);
		goto err_put;
	}

	hooked->buf = testgpu_buf_from_dmabuf(dmabuf);
	if (!hooked->buf) {
		ibdev_dbg(pd->device, "a dma-buf of %s has no pages for us\n", dmabuf->exp_name);
		mr = ERR_PTR(-EOPNOTSUPP);
		goto err_free;
	}

	mr = reg_buf(pd, hooked->buf, offset, length, iova, access, dmah, &attrs->driver_udata);
	if (IS_ERR(mr))
		goto err_free;

	hooked->mr = mr;
	hooked_mr_insert(hooked);
	return mr;

err_free:
	kfree(hooked);
err_put:
	dma_buf_put(dmabuf);
	return mr;
}

static int testgpu_dereg_mr(struct ib_mr *mr, struct ib_udata *udata)
{
	struct hooked_device *device = ib_get_client_data(mr->device, &testgpu_ib_client);
	struct hooked_mr *hooked = hooked_mr_take(mr);
	int ret;

	ret = device->dereg_mr(mr, udata);
	if (!hooked)
		return ret;

	/* The driver may refuse (a bound memory window), and the region lives on. */
	if (ret) {
		hooked_mr_insert(hooked);
		return ret;
	}

	dma_buf_put(hooked->buf->dmabuf);
	kfree(hooked);
	return 0;
}

static const struct ib_device_ops testgpu_ib_ops = {
	.reg_user_mr_dmabuf = testgpu_reg_user_mr_dmabuf,
};

static int testgpu_ib_add(struct ib_device *ibdev)
{
	struct hooked_device *device;

	if (ibdev->ops.driver_id != RDMA_DRIVER_RXE)
		return -EOPNOTSUPP;

	device = kzalloc(sizeof(*device), GFP_KERNEL);
	if (!device)
		return -ENOMEM;
	device->dereg_mr = ibdev->ops.dereg_mr;
	ib_set_client_data(ibdev, &testgpu_ib_client, device);

	/* Fills in what is missing and overwrites nothing, hence the second line. */
	ib_set_device_ops(ibdev, &testgpu_ib_ops);
	ibdev->ops.dereg_mr = testgpu_dereg_mr;

	/* A device's ops can't be taken back while it is in use: no unload before it goes. */
	__module_get(THIS_MODULE);
	return 0;
}

/* ib_uverbs, told of the device after us, has let go of it before us: no caller is left. */
static void testgpu_ib_remove(struct ib_device *ibdev, void *client_data)
{
	struct hooked_device *device = client_data;

	ibdev->ops.reg_user_mr_dmabuf = NULL;
	ibdev->ops.dereg_mr = device->dereg_mr;
	kfree(device);
	module_put(THIS_MODULE);
}

static struct ib_client testgpu_ib_client = {
	.name = KBUILD_MODNAME,
	.add = testgpu_ib_add,
	.remove = testgpu_ib_remove,
};

int testgpu_rxe_register(void)
{
	return ib_register_client(&testgpu_ib_client);
}

void testgpu_rxe_unregister(void)
{
	ib_unregister_client(&testgpu_ib_client);
}
