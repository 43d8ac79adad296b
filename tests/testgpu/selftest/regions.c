/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Memory regions over buffers: registration, refusals, and where they end. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "selftest.h"

static struct ibv_mr *register_buffer(struct loopback *loop, int fd, size_t size)
{
	struct ibv_mr *mr = ibv_reg_dmabuf_mr(loop->pd, 0, size, 0, fd, ACCESS_ALL);

	EXPECT(mr);
	return mr;
}

static void registration_checks_its_arguments(void)
{
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(KIB(16)), closed = dup(fd), pipes[2];
	const struct {
		uint64_t offset, length, iova;
		int access;
	} refused[] = {
		{ 0, 0, 0, ACCESS_ALL },
		{ 0, KIB(16) + 1, 0, ACCESS_ALL },
		{ PAGE, KIB(16), 0, ACCESS_ALL },
		{ KIB(16), 1, 0, ACCESS_ALL },
		{ -PAGE, 2 * PAGE, 0, ACCESS_ALL },
		{ PAGE, UINT64_MAX, 0, ACCESS_ALL },
		{ 8, PAGE, 0, ACCESS_ALL },
		{ 0, PAGE, 8, ACCESS_ALL },
		{ 0, PAGE, 0, ACCESS_ALL | IBV_ACCESS_ON_DEMAND },
		{ 0, PAGE, 0, ACCESS_ALL | IBV_ACCESS_MW_BIND },
		{ 0, PAGE, 0, IBV_ACCESS_REMOTE_WRITE },
	};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, refused[i].offset, refused[i].length,
						refused[i].iova, fd, refused[i].access), EINVAL);

	EXPECT(!pipe(pipes));
	close(closed);
	EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, 0, PAGE, 0, closed, ACCESS_ALL), EBADF);
	EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, 0, 0, 0, -1, 0), EBADF);
	EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, 0, PAGE, 0, pipes[0], ACCESS_ALL), EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	close(fd);
	loopback_close(&loop);
}

static void dma_buf_of_another_driver_is_refused(void)
{
	struct loopback loop = loopback_open();
	int memfd = memfd_create("ram", MFD_ALLOW_SEALING);
	int udmabuf = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), fd;
	struct udmabuf_create create = { .memfd = (uint32_t)memfd, .size = PAGE };

	EXPECT(memfd >= 0 && udmabuf >= 0);
	EXPECT(!ftruncate(memfd, PAGE));
	EXPECT(!fcntl(memfd, F_ADD_SEALS, F_SEAL_SHRINK));
	EXPECT((fd = ioctl(udmabuf, UDMABUF_CREATE, &create)) >= 0);
	EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, 0, PAGE, 0, fd, ACCESS_ALL), EOPNOTSUPP);
	close(fd);
	close(udmabuf);
	close(memfd);
	loopback_close(&loop);
}

static void pinned_region_over_the_mapping_is_refused(void)
{
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(PAGE);
	uint8_t *at = map_fd(fd, PAGE);

	EXPECT_ERRNO(!ibv_reg_mr(loop.pd, at, PAGE, ACCESS_ALL), EFAULT);
	munmap(at, PAGE);
	close(fd);
	loopback_close(&loop);
}

static void region_holds_the_buffer(void)
{
	struct peermem_testgpu_info before = gpu_info();
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(MIB(1));
	struct ibv_mr *mr = register_buffer(&loop, fd, MIB(1));

	EXPECT(gpu_info().memory_regions == before.memory_regions + 1);
	close(fd);
	EXPECT(gpu_info().free_bytes == before.free_bytes - MIB(1));
	EXPECT_ERRNO(unload_module(), EWOULDBLOCK);
	EXPECT(!ibv_dereg_mr(mr));
	EXPECT(gpu_info().free_bytes == before.free_bytes);
	EXPECT(gpu_info().memory_regions == before.memory_regions);
	loopback_close(&loop);
}

/* Registration maps the buffer for a moment: nothing of that may stay behind. */
static void registration_leaves_no_mapping(void)
{
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(KIB(64)), seen = 0;
	struct ibv_mr *mr = register_buffer(&loop, fd, KIB(64));
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512];

	EXPECT(maps);
	while (fgets(line, sizeof(line), maps))
		seen |= strstr(line, "[peermem_testgpu]") || strstr(line, "/dmabuf:");
	fclose(maps);
	EXPECT(!seen);
	EXPECT(!ibv_dereg_mr(mr));
	close(fd);
	loopback_close(&loop);
}

static void hundred_rounds_register_and_deregister(void)
{
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(MIB(1));
	struct ibv_mr *mrs[4];

	for (int round = 0; round < 100; round++) {
		for (size_t i = 0; i < ARRAY_SIZE(mrs); i++)
			mrs[i] = register_buffer(&loop, fd, MIB(1));
		for (size_t i = 0; i < ARRAY_SIZE(mrs); i++)
			EXPECT(!ibv_dereg_mr(mrs[i]));
	}
	close(fd);
	loopback_close(&loop);
}

/* Device memory isn't charged to the limit of locked memory. */
static void register_as_nobody(void)
{
	struct rlimit none = { 0, 0 };
	int fd = gpu_buffer(MIB(8));

	EXPECT(!setrlimit(RLIMIT_MEMLOCK, &none));
	EXPECT(!setgid(65534) && !setuid(65534));

	struct loopback loop = loopback_open();
	uint8_t *ram = mmap(NULL, MIB(8), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(ram != MAP_FAILED);
	EXPECT(!ibv_reg_mr(loop.pd, ram, MIB(8), ACCESS_ALL));
	EXPECT(!ibv_dereg_mr(register_buffer(&loop, fd, MIB(8))));
}

static void memlock_limit_does_not_count(void)
{
	EXPECT(!child_fails(register_as_nobody));
}

void hold_regions(void)
{
	struct loopback loop = loopback_open();

	for (int i = 0; i < 4; i++) {
		int fd = gpu_buffer(KIB(256));

		register_buffer(&loop, fd, KIB(256));
		close(fd);
	}
	raise(SIGSTOP);
}

static void killed_process_leaves_no_region(void)
{
	child_kill(child_stopped(hold_regions));
}

const struct check region_checks[] = {
	{ "registration_checks_its_arguments", registration_checks_its_arguments },
	{ "dma_buf_of_another_driver_is_refused", dma_buf_of_another_driver_is_refused },
	{ "pinned_region_over_the_mapping_is_refused", pinned_region_over_the_mapping_is_refused },
	{ "region_holds_the_buffer", region_holds_the_buffer },
	{ "registration_leaves_no_mapping", registration_leaves_no_mapping },
	{ "hundred_rounds_register_and_deregister", hundred_rounds_register_and_deregister },
	{ "memlock_limit_does_not_count", memlock_limit_does_not_count },
	{ "killed_process_leaves_no_region", killed_process_leaves_no_region },
	{}
};
