// SPDX-License-Identifier: GPL-2.0
/*
 * A GPU for tests: a display adapter's BAR plays the VRAM, and soft-RoCE learns
 * to register dma-bufs of it. This file is the control node.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "peermem_testgpu.h"
#include "testgpu.h"

static int testgpu_ioctl_info(void __user *uarg)
{
	struct peermem_testgpu_info info = {};

	mutex_lock(&testgpu.lock);
	if (!testgpu.pdev) {
		mutex_unlock(&testgpu.lock);
		return -ENODEV;
	}
	info.vram_bytes = gen_pool_size(testgpu.pool);
	info.free_bytes = gen_pool_avail(testgpu.pool);
	info.generation = testgpu.generation;
	info.buffers = testgpu.nr_buffers;
	info.memory_regions = testgpu_rxe_memory_regions();
	strscpy(info.pci_address, pci_name(testgpu.pdev));
	mutex_unlock(&testgpu.lock);

	return copy_to_user(uarg, &info, sizeof(info)) ? -EFAULT : 0;
}

static int testgpu_ioctl_alloc(void __user *uarg)
{
	struct peermem_testgpu_alloc args;
	struct testgpu_buf *buf;
	int fd;

	if (copy_from_user(&args, uarg, sizeof(args)))
		return -EFAULT;
	if (!args.size || !PAGE_ALIGNED(args.size) || args.reserved ||
	    args.flags & ~PEERMEM_TESTGPU_ALLOC_ZERO)
		return -EINVAL;

	fd = get_unused_fd_flags(O_CLOEXEC);
	if (fd < 0)
		return fd;

	buf = testgpu_buf_create(args.size, args.flags & PEERMEM_TESTGPU_ALLOC_ZERO,
				 &args.generation);
	if (IS_ERR(buf)) {
		put_unused_fd(fd);
		return PTR_ERR(buf);
	}

	args.offset = buf->vaddr - testgpu.vram;
	args.fd = fd;
	args.padding = 0;
	if (copy_to_user(uarg, &args, sizeof(args))) {
		put_unused_fd(fd);
		dma_buf_put(buf->dmabuf);
		return -EFAULT;
	}

	fd_install(fd, buf->dmabuf->file);
	return 0;
}

static int testgpu_ioctl_reset(void __user *uarg)
{
	struct peermem_testgpu_reset reset = {};

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	mutex_lock(&testgpu.lock);
	if (!testgpu.pdev) {
		mutex_unlock(&testgpu.lock);
		return -ENODEV;
	}
	reset.generation = ++testgpu.generation;
	reset.buffers = testgpu_revoke_all(&reset.memory_regions);
	mutex_unlock(&testgpu.lock);

	return copy_to_user(uarg, &reset, sizeof(reset)) ? -EFAULT : 0;
}

static long testgpu_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *uarg = (void __user *)arg;

	switch (cmd) {
	case PEERMEM_TESTGPU_IOC_INFO:
		return testgpu_ioctl_info(uarg);
	case PEERMEM_TESTGPU_IOC_ALLOC:
		return testgpu_ioctl_alloc(uarg);
	case PEERMEM_TESTGPU_IOC_RESET:
		return testgpu_ioctl_reset(uarg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations testgpu_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = testgpu_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* Anyone may allocate, as with a GPU's render node; a reset is checked apart. */
static struct miscdevice testgpu_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &testgpu_fops,
	.mode = 0666,
};

static int __init testgpu_init(void)
{
	int ret;

	ret = testgpu_pci_register();
	if (ret)
		return ret;
	ret = misc_register(&testgpu_misc);
	if (ret)
		goto err_pci;
	ret = testgpu_rxe_register();
	if (ret)
		goto err_misc;
	return 0;

err_misc:
	misc_deregister(&testgpu_misc);
err_pci:
	testgpu_pci_unregister();
	return ret;
}
module_init(testgpu_init);

/* Open files, dma-bufs and hooked RDMA devices each hold the module: none is left here. */
static void __exit testgpu_exit(void)
{
	testgpu_rxe_unregister();
	misc_deregister(&testgpu_misc);
	testgpu_pci_unregister();
}
module_exit(testgpu_exit);

MODULE_DESCRIPTION("GPU memory for peermem's tests: VRAM from a display adapter, dma-buf on soft-RoCE");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
