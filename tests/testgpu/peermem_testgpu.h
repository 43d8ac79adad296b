/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * The ioctls of /dev/peermem_testgpu, the control node of the test GPU.
 *
 * All sizes and offsets are in bytes. Every struct has the same layout on 32
 * and 64 bit, no implicit padding, and is a multiple of 8 bytes long. A request
 * whose flags or reserved fields aren't zero where they must be gets EINVAL.
 *
 * Every ioctl fails with ENODEV while no display adapter is bound to the driver.
 */
#ifndef PEERMEM_TESTGPU_H
#define PEERMEM_TESTGPU_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PEERMEM_TESTGPU_DEVICE	"/dev/peermem_testgpu"

/*
 * INFO: what the GPU is and what is in use. Output only.
 *
 * struct layout: 56 bytes
 *    0  vram_bytes     size of BAR 0, all of it memory
 *    8  free_bytes     not held by any buffer (a buffer holds its range until the
 *                      last fd, mapping and memory region that uses it is gone)
 *   16  generation     starts at 1, one more with every RESET
 *   24  buffers        buffers alive, revoked ones included
 *   28  memory_regions dma-buf memory regions alive on soft-RoCE, dead ones included
 *   32  pci_address    "0000:00:03.0", NUL-terminated and NUL-padded
 *   48  reserved       0
 */
struct peermem_testgpu_info {
	__u64 vram_bytes;
	__u64 free_bytes;
	__u64 generation;
	__u32 buffers;
	__u32 memory_regions;
	char pci_address[16];
	__u64 reserved;
};

/* ALLOC flag: fill the range with zeros. Without it, an earlier owner's bytes show. */
#define PEERMEM_TESTGPU_ALLOC_ZERO	(1U << 0)

/*
 * ALLOC: take a range of VRAM and export it as a dma-buf (exp_name
 * "peermem_testgpu"), close-on-exec, readable and writable, mmap-able with
 * MAP_SHARED.
 *
 * struct layout: 40 bytes
 *    0  size           in: a multiple of the page size, not 0
 *    8  flags          in: PEERMEM_TESTGPU_ALLOC_*
 *   12  reserved       in: 0
 *   16  offset         out: where the range starts in VRAM
 *   24  generation     out: the GPU's generation at the time of allocation
 *   32  fd             out: the dma-buf
 *   36  padding        out: 0
 *
 * EINVAL: size, flags or reserved. ENOMEM: no free range that large.
 * EMFILE: the caller's limit of open files.
 */
struct peermem_testgpu_alloc {
	__u64 size;
	__u32 flags;
	__u32 reserved;
	__u64 offset;
	__u64 generation;
	__s32 fd;
	__u32 padding;
};

/*
 * RESET: revoke every buffer, as a GPU does that has lost its memory. When it
 * returns, for every buffer made before:
 *   - a touch of any mapping raises SIGBUS, and mmap fails with ENODEV;
 *   - registering it fails with ENODEV;
 *   - its memory regions are dead: work that names one moves no byte, and
 *     completes with IBV_WC_REM_ACCESS_ERR where it is the remote side,
 *     IBV_WC_LOC_PROT_ERR as target of a read, IBV_WC_WR_FLUSH_ERR as source of
 *     a write. (A packet whose copy had begun before may finish; the range
 *     isn't given to anyone else before the region is deregistered.)
 * Buffers made after are not affected. Needs CAP_SYS_ADMIN (EPERM). Output only.
 *
 * struct layout: 16 bytes
 *    0  generation     the new generation
 *    8  buffers        how many were revoked by this call
 *   12  memory_regions how many were made dead by this call
 */
struct peermem_testgpu_reset {
	__u64 generation;
	__u32 buffers;
	__u32 memory_regions;
};

#define PEERMEM_TESTGPU_IOC_MAGIC	0xB6

#define PEERMEM_TESTGPU_IOC_INFO \
	_IOR(PEERMEM_TESTGPU_IOC_MAGIC, 0, struct peermem_testgpu_info)
#define PEERMEM_TESTGPU_IOC_ALLOC \
	_IOWR(PEERMEM_TESTGPU_IOC_MAGIC, 1, struct peermem_testgpu_alloc)
#define PEERMEM_TESTGPU_IOC_RESET \
	_IOR(PEERMEM_TESTGPU_IOC_MAGIC, 2, struct peermem_testgpu_reset)

#endif
