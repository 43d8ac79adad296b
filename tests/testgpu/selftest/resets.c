/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A GPU reset takes buffers back from everybody who uses them. */
#include <sys/mman.h>
#include <unistd.h>

#include "selftest.h"

static void mappings_raise_sigbus(void)
{
	uint64_t generation = gpu_info().generation;
	struct peermem_testgpu_alloc old = gpu_alloc(KIB(64), 0);
	uint8_t *touched = map_fd(old.fd, KIB(64)), *untouched = map_fd(old.fd, KIB(64));
	struct peermem_testgpu_reset reset;

	fill(touched, KIB(64), 1);
	EXPECT(old.generation == generation);
	reset = gpu_reset();
	EXPECT(reset.generation == generation + 1);
	EXPECT(reset.buffers == 1 && reset.memory_regions == 0);
	EXPECT(gpu_info().generation == generation + 1);

	EXPECT(touch_raises_sigbus(touched));
	EXPECT(touch_raises_sigbus(touched + KIB(64) - 1));
	EXPECT(touch_raises_sigbus(untouched));
	EXPECT_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, old.fd, 0) == MAP_FAILED, ENODEV);
	munmap(touched, KIB(64));
	munmap(untouched, KIB(64));
	close(old.fd);
}

static void later_buffers_are_unaffected(void)
{
	int old = gpu_buffer(KIB(64));
	struct peermem_testgpu_reset reset = gpu_reset();
	struct peermem_testgpu_alloc new = gpu_alloc(KIB(64), 0);
	uint8_t *at = map_fd(new.fd, KIB(64));

	EXPECT(new.generation == reset.generation);
	fill(at, KIB(64), 2);
	EXPECT(holds(at, KIB(64), 2));
	/* The old one is revoked already: nothing is left to do for it. */
	EXPECT(gpu_info().buffers == 2);
	munmap(at, KIB(64));
	close(new.fd);
	EXPECT(gpu_reset().buffers == 0);
	close(old);
}

static void reset_as_nobody(void)
{
	struct peermem_testgpu_reset reset;

	EXPECT(!setgid(65534) && !setuid(65534));
	close(gpu_buffer(PAGE));
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_RESET, &reset), EPERM);
}

static void reset_needs_privilege(void)
{
	uint64_t generation = gpu_info().generation;

	EXPECT(!child_fails(reset_as_nobody));
	EXPECT(gpu_info().generation == generation);
}

/* Host memory's bytes can be seen: where they are the target, they must stay. */
static void expect_dead(enum ibv_wr_opcode opcode, int gpu_is_remote, enum ibv_wc_status expected)
{
	static uint8_t ram[KIB(64)];
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(KIB(64));
	struct ibv_mr *gpu = ibv_reg_dmabuf_mr(loop.pd, 0, KIB(64), 0, fd, ACCESS_ALL);
	struct ibv_mr *host = ibv_reg_mr(loop.pd, ram, sizeof(ram), ACCESS_ALL);

	EXPECT(gpu && host);

	struct ibv_sge in_host = { (uintptr_t)ram, KIB(64), host->lkey };
	struct ibv_sge in_gpu = { 0, KIB(64), gpu->lkey };
	struct ibv_sge local = gpu_is_remote ? in_host : in_gpu;
	uint64_t remote = gpu_is_remote ? 0 : (uintptr_t)ram;
	uint32_t rkey = gpu_is_remote ? gpu->rkey : host->rkey;

	EXPECT(loopback_copy(&loop, opcode, local, remote, rkey) == IBV_WC_SUCCESS);
	fill(ram, sizeof(ram), 6);
	EXPECT(gpu_reset().memory_regions == 1);
	EXPECT(loopback_copy(&loop, opcode, local, remote, rkey) == expected);
	EXPECT(holds(ram, sizeof(ram), 6));
	EXPECT_ERRNO(!ibv_reg_dmabuf_mr(loop.pd, 0, PAGE, 0, fd, ACCESS_ALL), ENODEV);
	EXPECT(!ibv_dereg_mr(gpu));
	EXPECT(!ibv_dereg_mr(host));
	close(fd);
	loopback_close(&loop);
}

static void remote_regions_are_dead(void)
{
	expect_dead(IBV_WR_RDMA_READ, 1, IBV_WC_REM_ACCESS_ERR);
	expect_dead(IBV_WR_RDMA_WRITE, 1, IBV_WC_REM_ACCESS_ERR);
}

/* Where rxe can't read what it is to send, it ends the queue pair and flushes the request. */
static void local_regions_are_dead(void)
{
	expect_dead(IBV_WR_RDMA_READ, 0, IBV_WC_LOC_PROT_ERR);
	expect_dead(IBV_WR_RDMA_WRITE, 0, IBV_WC_WR_FLUSH_ERR);
}

/* The range of a dead region isn't given to anyone else while its pages are pinned. */
static void dead_region_keeps_its_range(void)
{
	size_t free_bytes = gpu_info().free_bytes;
	struct loopback loop = loopback_open();
	int fd = gpu_buffer(MIB(1));
	struct ibv_mr *mr = ibv_reg_dmabuf_mr(loop.pd, 0, MIB(1), 0, fd, ACCESS_ALL);

	EXPECT(mr);
	close(fd);
	gpu_reset();
	EXPECT(gpu_info().free_bytes == free_bytes - MIB(1));
	EXPECT(gpu_info().memory_regions == 1);
	EXPECT(!ibv_dereg_mr(mr));
	EXPECT(gpu_info().free_bytes == free_bytes);
	loopback_close(&loop);
}

/* Allocates, maps, touches and registers until it is killed; anything may fail half-way. */
static void use_without_end(void)
{
	struct loopback loop = loopback_open();

	for (;;) {
		struct peermem_testgpu_alloc alloc = { .size = KIB(256) };
		struct ibv_mr *mr;
		uint8_t *at;

		if (gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &alloc))
			continue;
		at = mmap(NULL, KIB(256), PROT_READ | PROT_WRITE, MAP_SHARED, alloc.fd, 0);
		mr = ibv_reg_dmabuf_mr(loop.pd, 0, KIB(256), 0, alloc.fd, ACCESS_ALL);
		if (at != MAP_FAILED) {
			for (size_t i = 0; i < KIB(256); i += PAGE)
				touch_raises_sigbus(at + i);
			munmap(at, KIB(256));
		}
		if (mr)
			ibv_dereg_mr(mr);
		close(alloc.fd);
	}
}

static void resets_in_full_use_break_nothing(void)
{
	pid_t users[4];

	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		users[i] = child_start(use_without_end);
	for (int i = 0; i < 300; i++) {
		gpu_reset();
		usleep(10 * 1000);
	}
	for (size_t i = 0; i < ARRAY_SIZE(users); i++)
		child_kill(users[i]);
}

const struct check reset_checks[] = {
	{ "mappings_raise_sigbus", mappings_raise_sigbus },
	{ "later_buffers_are_unaffected", later_buffers_are_unaffected },
	{ "reset_needs_privilege", reset_needs_privilege },
	{ "remote_regions_are_dead", remote_regions_are_dead },
	{ "local_regions_are_dead", local_regions_are_dead },
	{ "dead_region_keeps_its_range", dead_region_keeps_its_range },
	{ "resets_in_full_use_break_nothing", resets_in_full_use_break_nothing },
	{}
};
