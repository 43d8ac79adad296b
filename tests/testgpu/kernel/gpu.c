// SPDX-License-Identifier: GPL-2.0
/*
 * The adapter: QEMU's standard VGA, whose BAR 0 is plain memory without a
 * register in it. Its pages get struct pages, so that soft-RoCE, which copies
 * with the CPU through struct pages, can reach them.
 */
#include <linux/aperture.h>
#include <linux/memremap.h>

#include "testgpu.h"

#define TESTGPU_VRAM_BAR 0

struct testgpu testgpu = {
	.lock = __MUTEX_INITIALIZER(testgpu.lock),
	.buffers = LIST_HEAD_INIT(testgpu.buffers),
	.generation = 1,
	.idle = __WAIT_QUEUE_HEAD_INITIALIZER(testgpu.idle),
};

static int testgpu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct dev_pagemap *pgmap;
	struct gen_pool *pool;
	void *vram;
	int ret;

	/* A firmware framebuffer (efifb, vesafb, simpledrm) may sit in this BAR. */
	ret = aperture_remove_conflicting_pci_devices(pdev, KBUILD_MODNAME);
	if (ret)
		return ret;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = pcim_request_region(pdev, TESTGPU_VRAM_BAR, KBUILD_MODNAME);
	if (ret)
		return ret;

	pool = devm_gen_pool_create(&pdev->dev, PAGE_SHIFT, NUMA_NO_NODE, NULL);
	if (IS_ERR(pool))
		return PTR_ERR(pool);

	pgmap = devm_kzalloc(&pdev->dev, sizeof(*pgmap), GFP_KERNEL);
	if (!pgmap)
		return -ENOMEM;
	pgmap->type = MEMORY_DEVICE_GENERIC;
	pgmap->range.start = pci_resource_start(pdev, TESTGPU_VRAM_BAR);
	pgmap->range.end = pci_resource_end(pdev, TESTGPU_VRAM_BAR);
	pgmap->nr_range = 1;
	vram = devm_memremap_pages(&pdev->dev, pgmap);
	if (IS_ERR(vram))
		return PTR_ERR(vram);

	ret = gen_pool_add_virt(pool, (unsigned long)vram, pgmap->range.start,
				range_len(&pgmap->range), NUMA_NO_NODE);
	if (ret)
		return ret;

	mutex_lock(&testgpu.lock);
	if (testgpu.pdev) {
		ret = -EBUSY;
	} else {
		testgpu.pdev = pdev;
		testgpu.vram = vram;
		testgpu.pool = pool;
	}
	mutex_unlock(&testgpu.lock);
	if (!ret)
		pci_info(pdev, "%llu bytes of VRAM\n", range_len(&pgmap->range));
	return ret;
}

/*
 * Unplugged. Nobody can take the pages back from a memory region that pinned
 * them, and the pagemap doesn't wait for such pins either (for generic pages it
 * counts none), so this does: it ends when the last buffer has been let go.
 */
static void testgpu_remove(struct pci_dev *pdev)
{
	unsigned int memory_regions;

	mutex_lock(&testgpu.lock);
	testgpu.pdev = NULL;
	testgpu_revoke_all(&memory_regions);
	mutex_unlock(&testgpu.lock);

	wait_event(testgpu.idle, !READ_ONCE(testgpu.nr_buffers));
}

static const struct pci_device_id testgpu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x1111) },
	{}
};
MODULE_DEVICE_TABLE(pci, testgpu_ids);

static struct pci_driver testgpu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = testgpu_ids,
	.probe = testgpu_probe,
	.remove = testgpu_remove,
};

int testgpu_pci_register(void)
{
	return pci_register_driver(&testgpu_driver);
}

void testgpu_pci_unregister(void)
{
	pci_unregister_driver(&testgpu_driver);
}
