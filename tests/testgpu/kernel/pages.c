// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers as mappings of pages.
 *
 * soft-RoCE's registration takes a range of the caller's address space and pins
 * the pages found there. A buffer's user mapping has none to pin (dmabuf.c), so
 * for the time of one registration the caller gets another mapping that has.
 * The memory region keeps the pages, and needs no mapping afterwards.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/mman.h>

#include "testgpu.h"

static int testgpu_pages_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct testgpu_buf *buf = file->private_data;
	unsigned long nr_pages = buf->size >> PAGE_SHIFT;
	unsigned long i;
	int ret = 0;

	if (vma->vm_pgoff >= nr_pages || vma_pages(vma) > nr_pages - vma->vm_pgoff)
		return -EINVAL;

	vm_flags_set(vma, VM_MIXEDMAP | VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	for (i = 0; i < vma_pages(vma) && !ret; i++)
		ret = vm_insert_page(vma, vma->vm_start + i * PAGE_SIZE,
				     pfn_to_page(testgpu_buf_pfn(buf) + vma->vm_pgoff + i));
	return ret;
}

static int testgpu_pages_release(struct inode *inode, struct file *file)
{
	struct testgpu_buf *buf = file->private_data;

	dma_buf_put(buf->dmabuf);
	return 0;
}

static const struct file_operations testgpu_pages_fops = {
	.owner = THIS_MODULE,
	.mmap = testgpu_pages_mmap,
	.release = testgpu_pages_release,
};

/**
 * testgpu_pages_map - map pages of a buffer into the caller's address space
 * @buf: the buffer
 * @offset: where to begin, in bytes, page-aligned
 * @size: in bytes, page-aligned
 *
 * The caller's threads can see the mapping and even move it away. Therefore it
 * holds the dma-buf by itself, and hangs off the dma-buf's own address_space,
 * where a reset finds it.
 *
 * Return: the address, or a negative errno in its place.
 */
unsigned long testgpu_pages_map(struct testgpu_buf *buf, u64 offset, size_t size)
{
	struct file *file;
	unsigned long addr;

	file = anon_inode_getfile("[peermem_testgpu]", &testgpu_pages_fops, buf, O_RDWR);
	if (IS_ERR(file))
		return PTR_ERR(file);
	get_dma_buf(buf->dmabuf);
	file->f_mapping = buf->dmabuf->file->f_mapping;

	addr = vm_mmap(file, 0, size, PROT_READ | PROT_WRITE, MAP_SHARED, offset);
	fput(file);
	return addr;
}

/**
 * testgpu_pages_unmap - undo testgpu_pages_map()
 * @addr: what it returned
 * @size: what it was given
 */
void testgpu_pages_unmap(unsigned long addr, size_t size)
{
	vm_munmap(addr, size);
}
