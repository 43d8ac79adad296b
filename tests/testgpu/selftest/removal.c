/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the GPU's users hold when the adapter, the RDMA device or the module goes. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selftest.h"

static void write_sysfs(const char *path)
{
	int fd = open(path, O_WRONLY);

	EXPECT(fd >= 0);
	EXPECT(write(fd, "1", 1) == 1);
	close(fd);
}

static void unplug(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", gpu_info().pci_address);
	write_sysfs(path);
}

static void unplug_waits_for_regions(void)
{
	struct peermem_testgpu_info info = gpu_info();
	pid_t holder = child_stopped(hold_regions), unplugger = child_start(unplug);
	int status;

	sleep(2);
	EXPECT(waitpid(unplugger, &status, WNOHANG) == 0);
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_INFO, &info), ENODEV);
	child_kill(holder);
	EXPECT(waitpid(unplugger, &status, 0) == unplugger && status == 0);

	write_sysfs("/sys/bus/pci/rescan");
	EXPECT(gpu_info().free_bytes == info.vram_bytes);
	EXPECT(gpu_info().buffers == 0 && gpu_info().memory_regions == 0);
}

static void delete_rdma_devices(void)
{
	EXPECT(!system("for device in $(ls /sys/class/infiniband); do "
		       "rdma link delete $device || exit 1; done"));
}

/* The RDMA device goes first: it takes the regions along, though their owner lives. */
static void deleted_rdma_device_leaves_no_region(void)
{
	size_t free_bytes = gpu_info().free_bytes;
	pid_t holder = child_stopped(hold_regions);

	EXPECT(gpu_info().memory_regions == 4);
	delete_rdma_devices();
	EXPECT(gpu_info().memory_regions == 0);
	EXPECT(gpu_info().buffers == 0 && gpu_info().free_bytes == free_bytes);
	child_kill(holder);
}

static void module_waits_for_buffers_and_unloads(void)
{
	int fd = gpu_buffer(PAGE);

	EXPECT_ERRNO(unload_module(), EWOULDBLOCK);
	close(fd);
	EXPECT(!unload_module());
	EXPECT_ERRNO(access(PEERMEM_TESTGPU_DEVICE, F_OK), ENOENT);
}

const struct check removal_checks[] = {
	{ "unplug_waits_for_regions", unplug_waits_for_regions },
	{ "deleted_rdma_device_leaves_no_region", deleted_rdma_device_leaves_no_region },
	{ "module_waits_for_buffers_and_unloads", module_waits_for_buffers_and_unloads },
	{}
};
