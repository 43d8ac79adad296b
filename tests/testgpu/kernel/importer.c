// SPDX-License-Identifier: GPL-2.0
/*
 * An importer of dma-bufs for tests: attaches them for a PCI function as a NIC's
 * driver does, and lets go when the exporter says so.
 */
#include <linux/dma-buf.h>
#include <linux/dma-resv.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "peermem_testimporter.h"

/**
 * struct testimporter - one open file
 * @lock: guards @pdev and @attach, which come and go together
 * @pdev: the function that the dma-buf is attached for
 * @attach: the attachment, NULL before ATTACH
 * @sgt: its mapping or NULL; guarded by the dma-buf's reservation lock
 * @invalidations: how often @sgt was taken back; guarded as @sgt is
 */
struct testimporter {
	struct mutex lock;
	struct pci_dev *pdev;
	struct dma_buf_attachment *attach;
	struct sg_table *sgt;
	u32 invalidations;
};

static void testimporter_unmap(struct testimporter *imp)
{
	dma_resv_assert_held(imp->attach->dmabuf->resv);
	if (!imp->sgt)
		return;
	dma_buf_unmap_attachment(imp->attach, imp->sgt, DMA_BIDIRECTIONAL);
	imp->sgt = NULL;
}

/* Called with the reservation lock held. No DMA is under way: the mapping can go at once. */
static void testimporter_invalidate(struct dma_buf_attachment *attach)
{
	struct testimporter *imp = attach->importer_priv;

	/* The attachment isn't known here before ATTACH has returned, and unmapped till then. */
	if (!READ_ONCE(imp->attach) || !imp->sgt)
		return;
	testimporter_unmap(imp);
	imp->invalidations++;
}

static const struct dma_buf_attach_ops testimporter_ops = {
	.allow_peer2peer = true,
	.invalidate_mappings = testimporter_invalidate,
};

static struct pci_dev *testimporter_find(const char *address)
{
	unsigned int domain, bus, device, function;

	if (sscanf(address, "%x:%x:%x.%x", &domain, &bus, &device, &function) != 4)
		return NULL;
	return pci_get_domain_bus_and_slot(domain, bus, PCI_DEVFN(device, function));
}

static int testimporter_ioctl_attach(struct testimporter *imp, void __user *uarg)
{
	struct peermem_testimporter_attach args;
	struct dma_buf_attachment *attach;
	struct dma_buf *dmabuf;
	struct pci_dev *pdev;

	if (copy_from_user(&args, uarg, sizeof(args)))
		return -EFAULT;
	args.pci_address[sizeof(args.pci_address) - 1] = '\0';
	if (args.reserved)
		return -EINVAL;
	if (imp->attach)
		return -EBUSY;

	pdev = testimporter_find(args.pci_address);
	if (!pdev)
		return -ENODEV;
	dmabuf = dma_buf_get(args.fd);
	if (IS_ERR(dmabuf)) {
		pci_dev_put(pdev);
		return PTR_ERR(dmabuf);
	}
	attach = dma_buf_dynamic_attach(dmabuf, &pdev->dev, &testimporter_ops, imp);
	if (IS_ERR(attach)) {
		dma_buf_put(dmabuf);
		pci_dev_put(pdev);
		return PTR_ERR(attach);
	}
	imp->pdev = pdev;
	WRITE_ONCE(imp->attach, attach);
	return 0;
}

static int testimporter_ioctl_map(struct testimporter *imp, void __user *uarg)
{
	struct peermem_testimporter_map map = {};
	struct scatterlist *sg;
	struct sg_table *sgt;
	int ret = 0, i;

	if (!imp->attach)
		return -ENOTCONN;
	dma_resv_lock(imp->attach->dmabuf->resv, NULL);
	if (imp->sgt) {
		ret = -EBUSY;
		goto unlock;
	}
	sgt = dma_buf_map_attachment(imp->attach, DMA_BIDIRECTIONAL);
	if (IS_ERR(sgt)) {
		ret = PTR_ERR(sgt);
		goto unlock;
	}
	imp->sgt = sgt;
	map.address = sg_dma_address(sgt->sgl);
	for_each_sgtable_dma_sg(sgt, sg, i)
		map.length += sg_dma_len(sg);
unlock:
	dma_resv_unlock(imp->attach->dmabuf->resv);
	if (!ret && copy_to_user(uarg, &map, sizeof(map)))
		ret = -EFAULT;
	return ret;
}

static int testimporter_ioctl_state(struct testimporter *imp, void __user *uarg)
{
	struct peermem_testimporter_state state = {};

	if (imp->attach) {
		dma_resv_lock(imp->attach->dmabuf->resv, NULL);
		state.mapped = imp->sgt != NULL;
		state.invalidations = imp->invalidations;
		dma_resv_unlock(imp->attach->dmabuf->resv);
	}
	return copy_to_user(uarg, &state, sizeof(state)) ? -EFAULT : 0;
}

static long testimporter_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct testimporter *imp = file->private_data;
	void __user *uarg = (void __user *)arg;
	long ret;

	mutex_lock(&imp->lock);
	switch (cmd) {
	case PEERMEM_TESTIMPORTER_IOC_ATTACH:
		ret = testimporter_ioctl_attach(imp, uarg);
		break;
	case PEERMEM_TESTIMPORTER_IOC_MAP:
		ret = testimporter_ioctl_map(imp, uarg);
		break;
	case PEERMEM_TESTIMPORTER_IOC_STATE:
		ret = testimporter_ioctl_state(imp, uarg);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&imp->lock);
	return ret;
}

static int testimporter_open(struct inode *inode, struct file *file)
{
	struct testimporter *imp = kzalloc(sizeof(*imp), GFP_KERNEL);

	if (!imp)
		return -ENOMEM;
	mutex_init(&imp->lock);
	file->private_data = imp;
	return 0;
}

static int testimporter_release(struct inode *inode, struct file *file)
{
	struct testimporter *imp = file->private_data;
	struct dma_buf *dmabuf;

	if (imp->attach) {
		dmabuf = imp->attach->dmabuf;
		dma_resv_lock(dmabuf->resv, NULL);
		testimporter_unmap(imp);
		dma_resv_unlock(dmabuf->resv);
		dma_buf_detach(dmabuf, imp->attach);
		dma_buf_put(dmabuf);
		pci_dev_put(imp->pdev);
	}
	kfree(imp);
	return 0;
}

static const struct file_operations testimporter_fops = {
	.owner = THIS_MODULE,
	.open = testimporter_open,
	.release = testimporter_release,
	.unlocked_ioctl = testimporter_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

/* For root: any function can be named. */
static struct miscdevice testimporter_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = KBUILD_MODNAME,
	.fops = &testimporter_fops,
	.mode = 0600,
};
module_misc_device(testimporter_misc);

MODULE_DESCRIPTION("An importer of dma-bufs for peermem's tests");
MODULE_LICENSE("GPL");
MODULE_IMPORT_NS("DMA_BUF");
