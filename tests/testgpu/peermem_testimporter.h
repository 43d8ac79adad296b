/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * The ioctls of /dev/peermem_testimporter: a driver that attaches dma-bufs for a
 * PCI function, as a NIC's does, and says what becomes of them. It moves no byte.
 *
 * One attachment an open file; closing the file ends it. Every struct has the
 * same layout on 32 and 64 bit.
 */
#ifndef PEERMEM_TESTIMPORTER_H
#define PEERMEM_TESTIMPORTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PEERMEM_TESTIMPORTER_DEVICE	"/dev/peermem_testimporter"

/*
 * ATTACH: attach a dma-buf for a function, revocably. Input only.
 *
 * struct layout: 24 bytes
 *    0  fd             the dma-buf
 *    4  reserved       0
 *    8  pci_address    the function, "0000:00:03.0", NUL-terminated
 *
 * EBUSY: this file has an attachment. ENODEV: no such function, or the exporter
 * has revoked the dma-buf. EBADF, EINVAL: not a dma-buf.
 */
struct peermem_testimporter_attach {
	__s32 fd;
	__u32 reserved;
	char pci_address[16];
};

/*
 * MAP: have the exporter say where the memory is for the function. Output only.
 *
 * struct layout: 16 bytes
 *    0  address        of the first piece
 *    8  length         of all pieces
 *
 * EBUSY: mapped already. ENODEV: revoked. ENOTCONN: no attachment.
 */
struct peermem_testimporter_map {
	__u64 address;
	__u64 length;
};

/*
 * STATE: struct layout: 8 bytes
 *    0  mapped         1 while the function may reach the memory
 *    4  invalidations  how often the exporter took a mapping back
 */
struct peermem_testimporter_state {
	__u32 mapped;
	__u32 invalidations;
};

#define PEERMEM_TESTIMPORTER_IOC_ATTACH	_IOW(0xB7, 0, struct peermem_testimporter_attach)
#define PEERMEM_TESTIMPORTER_IOC_MAP	_IOR(0xB7, 1, struct peermem_testimporter_map)
#define PEERMEM_TESTIMPORTER_IOC_STATE	_IOR(0xB7, 2, struct peermem_testimporter_state)

#endif
