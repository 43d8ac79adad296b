/* SPDX-License-Identifier: GPL-2.0 */
#ifndef TESTGPU_H
#define TESTGPU_H

#include <linux/dma-buf.h>
#include <linux/genalloc.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/wait.h>

/**
 * struct testgpu - the one GPU of this machine
 * @lock: guards all below. Outermost: dma_resv, i_mmap and the memory regions'
 *	lock are taken inside it
 * @pdev: the display adapter, NULL while none is bound
 * @vram: kernel mapping of BAR 0, whose pages are ordinary struct pages
 * @pool: who owns which part of @vram
 * @buffers: every exported &struct testgpu_buf, until its dma-buf is released
 * @nr_buffers: length of @buffers
 * @generation: how often the GPU was reset, plus one
 * @idle: woken when a buffer goes
 */
struct testgpu {
	struct mutex lock;
	struct pci_dev *pdev;
	void *vram;
	struct gen_pool *pool;
	struct list_head buffers;
	unsigned int nr_buffers;
	u64 generation;
	wait_queue_head_t idle;
};

extern struct testgpu testgpu;

/**
 * struct testgpu_buf - a range of VRAM behind one dma-buf
 * @dmabuf: the dma-buf, whose private data this is; frees it on release
 * @node: in &testgpu.buffers
 * @vaddr: kernel address of the first byte
 * @size: in bytes, whole pages
 * @revoked: set once, by a reset, under the dma-buf's reservation lock
 */
struct testgpu_buf {
	struct dma_buf *dmabuf;
	struct list_head node;
	void *vaddr;
	size_t size;
	bool revoked;
};

static inline unsigned long testgpu_buf_pfn(const struct testgpu_buf *buf)
{
	return PHYS_PFN(virt_to_phys(buf->vaddr));
}

/* gpu.c */
int testgpu_pci_register(void);
void testgpu_pci_unregister(void);

/* dmabuf.c */
struct testgpu_buf *testgpu_buf_create(size_t size, bool zero, u64 *generation);
struct testgpu_buf *testgpu_buf_from_dmabuf(struct dma_buf *dmabuf);
unsigned int testgpu_revoke_all(unsigned int *memory_regions);

/* pages.c */
unsigned long testgpu_pages_map(struct testgpu_buf *buf, u64 offset, size_t size);
void testgpu_pages_unmap(unsigned long addr, size_t size);

/* rxe_hook.c */
int testgpu_rxe_register(void);
void testgpu_rxe_unregister(void);
unsigned int testgpu_rxe_revoke(struct testgpu_buf *buf);
unsigned int testgpu_rxe_memory_regions(void);

#endif
