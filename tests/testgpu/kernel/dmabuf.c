// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers: a range of VRAM exported as a dma-buf.
 *
 * A user mapping holds bare page frames, not pages, as a real GPU's does: the
 * CPU may load and store, but nothing can pin it (a plain memory region or
 * O_DIRECT over it fails with EFAULT). So the only lasting references to VRAM
 * are those of memory regions, which hold the dma-buf, and a released buffer's
 * range can be handed out again at once.
 */
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/slab.h>

#include "testgpu.h"

static vm_fault_t testgpu_buf_fault(struct vm_fault *vmf)
{
	struct testgpu_buf *buf = vmf->vma->vm_private_data;
	vm_fault_t ret = VM_FAULT_SIGBUS;

	/* Under the lock of the flag: no entry can slip in behind a reset's zap. */
	dma_resv_lock(buf->dmabuf->resv, NULL);
	if (!buf->revoked && vmf->pgoff < buf->size >> PAGE_SHIFT)
		ret = vmf_insert_pfn(vmf->vma, vmf->address,
				     testgpu_buf_pfn(buf) + vmf->pgoff);
	dma_resv_unlock(buf->dmabuf->resv);
	return ret;
}

static const struct vm_operations_struct testgpu_buf_vm_ops = {
	.fault = testgpu_buf_fault,
};

/* The dma-buf core has checked that the range lies inside the buffer. */
static int testgpu_buf_mmap(struct dma_buf *dmabuf, struct vm_area_struct *vma)
{
	struct testgpu_buf *buf = dmabuf->priv;

	if (!(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	if (READ_ONCE(buf->revoked))
		return -ENODEV;

	vm_flags_set(vma, VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP);
	vma->vm_ops = &testgpu_buf_vm_ops;
	vma->vm_private_data = buf;
	return 0;
}

/*
 * No importer gets in this way: soft-RoCE needs pages, not DMA addresses, and
 * takes its own route (rxe_hook.c). Without attachments there is nobody whom a
 * reset would have to notify.
 */
static int testgpu_buf_attach(struct dma_buf *dmabuf, struct dma_buf_attachment *attach)
{
	return -EOPNOTSUPP;
}

/* The core demands the next two, and calls them only after a successful attach. */
static struct sg_table *testgpu_buf_map(struct dma_buf_attachment *attach,
					enum dma_data_direction dir)
{
	return ERR_PTR(-EOPNOTSUPP);
}

static void testgpu_buf_unmap(struct dma_buf_attachment *attach, struct sg_table *sgt,
			      enum dma_data_direction dir)
{
}

static void testgpu_buf_release(struct dma_buf *dmabuf)
{
	struct testgpu_buf *buf = dmabuf->priv;

	mutex_lock(&testgpu.lock);
	gen_pool_free(testgpu.pool, (unsigned long)buf->vaddr, buf->size);
	list_del(&buf->node);
	WRITE_ONCE(testgpu.nr_buffers, testgpu.nr_buffers - 1);
	mutex_unlock(&testgpu.lock);
	wake_up(&testgpu.idle);
	kfree(buf);
}

static const struct dma_buf_ops testgpu_buf_ops = {
	.attach = testgpu_buf_attach,
	.map_dma_buf = testgpu_buf_map,
	.unmap_dma_buf = testgpu_buf_unmap,
	.mmap = testgpu_buf_mmap,
	.release = testgpu_buf_release,
};

/**
 * testgpu_buf_from_dmabuf - the buffer behind a dma-buf
 * @dmabuf: any dma-buf
 *
 * Return: the buffer, or NULL if another driver exported @dmabuf.
 */
struct testgpu_buf *testgpu_buf_from_dmabuf(struct dma_buf *dmabuf)
{
	return dmabuf->ops == &testgpu_buf_ops ? dmabuf->priv : NULL;
}

/**
 * testgpu_buf_create - take a range of VRAM and export it
 * @size: in bytes, whole pages, not 0
 * @zero: fill it with zeros
 * @generation: the GPU's generation that the buffer belongs to
 *
 * Return: the buffer, which goes when the caller's reference to its dma-buf
 * and all others are dropped; -ENODEV without a GPU; -ENOMEM.
 */
struct testgpu_buf *testgpu_buf_create(size_t size, bool zero, u64 *generation)
{
	DEFINE_DMA_BUF_EXPORT_INFO(info);
	struct testgpu_buf *buf;
	int ret = -ENOMEM;

	buf = kzalloc(sizeof(*buf), GFP_KERNEL);
	if (!buf)
		return ERR_PTR(-ENOMEM);

	mutex_lock(&testgpu.lock);
	if (!testgpu.pdev) {
		ret = -ENODEV;
		goto err_unlock;
	}
	buf->size = size;
	buf->vaddr = (void *)gen_pool_alloc(testgpu.pool, size);
	if (!buf->vaddr)
		goto err_unlock;
	if (zero)
		memset(buf->vaddr, 0, size);

	info.ops = &testgpu_buf_ops;
	info.size = size;
	info.flags = O_RDWR;
	info.priv = buf;
	buf->dmabuf = dma_buf_export(&info);
	if (IS_ERR(buf->dmabuf)) {
		ret = PTR_ERR(buf->dmabuf);
		goto err_pool;
	}

	list_add_tail(&buf->node, &testgpu.buffers);
	WRITE_ONCE(testgpu.nr_buffers, testgpu.nr_buffers + 1);
	*generation = testgpu.generation;
	mutex_unlock(&testgpu.lock);
	return buf;

err_pool:
	gen_pool_free(testgpu.pool, (unsigned long)buf->vaddr, size);
err_unlock:
	mutex_unlock(&testgpu.lock);
	kfree(buf);
	return ERR_PTR(ret);
}

/**
 * testgpu_revoke_all - take every buffer back from its users
 * @memory_regions: how many memory regions died of it
 *
 * Return: how many buffers it revoked, not counting those revoked before.
 */
unsigned int testgpu_revoke_all(unsigned int *memory_regions)
{
	struct testgpu_buf *buf;
	unsigned int revoked = 0;

	lockdep_assert_held(&testgpu.lock);
	*memory_regions = 0;
	list_for_each_entry(buf, &testgpu.buffers, node) {
		/* A dma-buf whose last reference is gone waits for our lock in release(). */
		if (buf->revoked || !get_file_active(&buf->dmabuf->file))
			continue;

		dma_resv_lock(buf->dmabuf->resv, NULL);
		WRITE_ONCE(buf->revoked, true);
		dma_resv_unlock(buf->dmabuf->resv);

		unmap_mapping_range(buf->dmabuf->file->f_mapping, 0, 0, true);
		*memory_regions += testgpu_rxe_revoke(buf);
		revoked++;
		fput(buf->dmabuf->file);
	}
	return revoked;
}
