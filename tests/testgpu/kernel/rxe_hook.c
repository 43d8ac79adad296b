// SPDX-License-Identifier: GPL-2.0
/*
 * Teaches soft-RoCE (rdma_rxe) to register dma-bufs of the test GPU, without a
 * change to it: adds the one device op it lacks, and wraps the one that ends a
 * memory region. ib_uverbs looks for the op at each registration, so devices
 * that exist already when this is loaded are served too.
 */
#include <linux/cred.h>
#include <linux/device/devres.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <rdma/ib_verbs.h>
#include <rdma/uverbs_ioctl.h>

#include "testgpu.h"

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

/* rxe's own. All its devices have the same, so that of the latest device will do. */
static int (*rxe_dereg_mr)(struct ib_mr *mr, struct ib_udata *udata);

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
	/* A reset in between has emptied the mapping, which looks like a bad address. */
	if (IS_ERR(mr))
		return READ_ONCE(buf->revoked) ? ERR_PTR(-ENODEV) : mr;

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
	struct hooked_mr *hooked = hooked_mr_take(mr);
	int ret;

	ret = rxe_dereg_mr(mr, udata);
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

/* The tail call returns to the driver core: nothing of this module runs after it. */
static void testgpu_ib_released(void *module)
{
	module_put(module);
}

static int testgpu_ib_add(struct ib_device *ibdev)
{
	int ret;

	if (ibdev->ops.driver_id != RDMA_DRIVER_RXE)
		return -EOPNOTSUPP;
	/* Told again of the same device, which moved to another network namespace. */
	if (ibdev->ops.dereg_mr == testgpu_dereg_mr)
		return 0;

	/*
	 * The ops stay until the device itself is gone: whoever was told of it
	 * before us (ib_uverbs, perhaps) still calls them when we have been told
	 * to let go. Until then the module can't be unloaded.
	 */
	__module_get(THIS_MODULE);
	ret = devm_add_action_or_reset(&ibdev->dev, testgpu_ib_released, THIS_MODULE);
	if (ret)
		return ret;

	/* Fills in what is missing and overwrites nothing, hence the assignment. */
	ib_set_device_ops(ibdev, &testgpu_ib_ops);
	rxe_dereg_mr = ibdev->ops.dereg_mr;
	ibdev->ops.dereg_mr = testgpu_dereg_mr;
	return 0;
}

static struct ib_client testgpu_ib_client = {
	.name = KBUILD_MODNAME,
	.add = testgpu_ib_add,
};

int testgpu_rxe_register(void)
{
	return ib_register_client(&testgpu_ib_client);
}

void testgpu_rxe_unregister(void)
{
	ib_unregister_client(&testgpu_ib_client);
}
