/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Buffers without RDMA: allocation, export, mappings, and where they end. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "selftest.h"

static void info_names_the_adapter(void)
{
	struct peermem_testgpu_info info = gpu_info();
	char path[64];

	EXPECT(info.vram_bytes >= MIB(16));
	EXPECT(info.free_bytes <= info.vram_bytes);
	EXPECT(info.generation >= 1);
	EXPECT(info.reserved == 0);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource0", info.pci_address);
	EXPECT(!access(path, F_OK));
}

static void alloc_refuses_what_it_does_not_know(void)
{
	struct peermem_testgpu_alloc refused[] = {
		{ .size = 0 },
		{ .size = 1 },
		{ .size = PAGE + 512 },
		{ .size = UINT64_MAX },
		{ .size = PAGE, .flags = 2 },
		{ .size = PAGE, .reserved = 1 },
	};
	struct peermem_testgpu_alloc too_large = { .size = gpu_info().vram_bytes + PAGE };
	struct peermem_testgpu_alloc enormous = { .size = -PAGE };

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &refused[i]), EINVAL);
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &too_large), ENOMEM);
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &enormous), ENOMEM);
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, NULL), EFAULT);
	EXPECT_ERRNO(gpu_ioctl(_IO(PEERMEM_TESTGPU_IOC_MAGIC, 99), NULL), ENOTTY);
}

static void export_is_a_dma_buf_of_this_size(void)
{
	int fd = gpu_buffer(KIB(12));
	char path[64], line[128];
	int named = 0;
	FILE *fdinfo;

	EXPECT(lseek(fd, 0, SEEK_END) == (off_t)KIB(12));
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	fdinfo = fopen(path, "r");
	EXPECT(fdinfo);
	while (fgets(line, sizeof(line), fdinfo))
		named |= !strcmp(line, "exp_name:\tpeermem_testgpu\n");
	fclose(fdinfo);
	EXPECT(named);
	close(fd);
}

static void two_mappings_show_the_same_bytes(void)
{
	int fd = gpu_buffer(MIB(2));
	uint8_t *one = map_fd(fd, MIB(2)), *other = map_fd(fd, MIB(2));
	uint8_t *tail = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, MIB(2) - PAGE);

	EXPECT(one != other && tail != MAP_FAILED);
	fill(one, MIB(2), 1);
	EXPECT(holds(other, MIB(2), 1));
	EXPECT(!memcmp(tail, one + MIB(2) - PAGE, PAGE));
	munmap(tail, PAGE);
	munmap(other, MIB(2));
	munmap(one, MIB(2));
	close(fd);
}

static void buffers_do_not_overlap(void)
{
	struct peermem_testgpu_alloc a = gpu_alloc(KIB(64), 0), b = gpu_alloc(KIB(64), 0);
	uint8_t *at_a = map_fd(a.fd, KIB(64)), *at_b = map_fd(b.fd, KIB(64));

	EXPECT(a.offset % PAGE == 0 && b.offset % PAGE == 0);
	EXPECT(a.offset + KIB(64) <= b.offset || b.offset + KIB(64) <= a.offset);
	fill(at_a, KIB(64), 1);
	fill(at_b, KIB(64), 2);
	EXPECT(holds(at_a, KIB(64), 1));
	munmap(at_a, KIB(64));
	munmap(at_b, KIB(64));
	close(a.fd);
	close(b.fd);
}

static void zero_flag_hides_the_last_owner(void)
{
	size_t all = gpu_info().free_bytes;
	int fd = gpu_buffer(all);
	uint8_t *at = map_fd(fd, all);

	memset(at, 0xa5, all);
	munmap(at, all);
	close(fd);

	fd = gpu_alloc(all, PEERMEM_TESTGPU_ALLOC_ZERO).fd;
	at = map_fd(fd, all);
	EXPECT(holds_byte(at, all, 0));
	munmap(at, all);
	close(fd);
}

static void mmap_stays_inside_the_buffer(void)
{
	int fd = gpu_buffer(KIB(8));

	EXPECT_ERRNO(mmap(NULL, KIB(12), PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED, EINVAL);
	EXPECT_ERRNO(mmap(NULL, KIB(8), PROT_READ, MAP_SHARED, fd, PAGE) == MAP_FAILED, EINVAL);
	EXPECT_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, KIB(8)) == MAP_FAILED, EINVAL);
	EXPECT_ERRNO(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED, EINVAL);

	uint8_t *at = map_fd(fd, PAGE);

	EXPECT_ERRNO(mremap(at, PAGE, KIB(8), MREMAP_MAYMOVE) == MAP_FAILED, EFAULT);
	munmap(at, PAGE);
	close(fd);
}

/* Bare page frames, as with a real GPU: whatever wants to pin host memory must not get them. */
static void mapping_cannot_be_pinned(void)
{
	int fd = gpu_buffer(PAGE), pipes[2];
	uint8_t *at = map_fd(fd, PAGE);
	struct iovec iov = { at, PAGE };

	EXPECT(!pipe(pipes));
	EXPECT_ERRNO(vmsplice(pipes[1], &iov, 1, 0) < 0, EFAULT);
	close(pipes[0]);
	close(pipes[1]);
	munmap(at, PAGE);
	close(fd);
}

static void range_is_held_by_its_last_user(void)
{
	struct peermem_testgpu_info before = gpu_info();
	int fd = gpu_buffer(MIB(1)), copy = dup(fd);
	uint8_t *at = map_fd(fd, MIB(1));

	EXPECT(gpu_info().free_bytes == before.free_bytes - MIB(1));
	EXPECT(gpu_info().buffers == before.buffers + 1);
	close(fd);
	close(copy);
	EXPECT(gpu_info().free_bytes == before.free_bytes - MIB(1));
	fill(at, MIB(1), 3);
	EXPECT(holds(at, MIB(1), 3));
	munmap(at, MIB(1));
	EXPECT(gpu_info().free_bytes == before.free_bytes);
	EXPECT(gpu_info().buffers == before.buffers);
}

static void vram_can_be_used_up(void)
{
	struct peermem_testgpu_info info = gpu_info();
	struct peermem_testgpu_alloc page = { .size = PAGE };
	int fd = gpu_buffer(info.free_bytes);

	EXPECT(gpu_info().free_bytes == 0);
	EXPECT_ERRNO(gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &page), ENOMEM);
	close(fd);
	EXPECT(!gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &page));
	close(page.fd);
}

static void thousand_rounds_leave_no_trace(void)
{
	size_t free_bytes = gpu_info().free_bytes;
	int fds[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };

	srandom(1);
	for (int round = 0; round < 1000; round++) {
		int slot = round % ARRAY_SIZE(fds);
		size_t size = PAGE * (1 + random() % 64);

		if (fds[slot] >= 0)
			close(fds[slot]);
		fds[slot] = gpu_buffer(size);

		uint8_t *at = map_fd(fds[slot], size);

		at[0] = at[size - 1] = (uint8_t)round;
		munmap(at, size);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	EXPECT(gpu_info().free_bytes == free_bytes);
	/* Free, and in one piece. */
	close(gpu_buffer(free_bytes));
}

static void hold_mapped_buffers(void)
{
	for (int i = 0; i < 4; i++)
		fill(map_fd(gpu_buffer(KIB(256)), KIB(256)), KIB(256), i);
	raise(SIGSTOP);
}

static void killed_process_leaves_no_buffer(void)
{
	child_kill(child_stopped(hold_mapped_buffers));
}

const struct check buffer_checks[] = {
	{ "info_names_the_adapter", info_names_the_adapter },
	{ "alloc_refuses_what_it_does_not_know", alloc_refuses_what_it_does_not_know },
	{ "export_is_a_dma_buf_of_this_size", export_is_a_dma_buf_of_this_size },
	{ "two_mappings_show_the_same_bytes", two_mappings_show_the_same_bytes },
	{ "buffers_do_not_overlap", buffers_do_not_overlap },
	{ "zero_flag_hides_the_last_owner", zero_flag_hides_the_last_owner },
	{ "mmap_stays_inside_the_buffer", mmap_stays_inside_the_buffer },
	{ "mapping_cannot_be_pinned", mapping_cannot_be_pinned },
	{ "range_is_held_by_its_last_user", range_is_held_by_its_last_user },
	{ "vram_can_be_used_up", vram_can_be_used_up },
	{ "thousand_rounds_leave_no_trace", thousand_rounds_leave_no_trace },
	{ "killed_process_leaves_no_buffer", killed_process_leaves_no_buffer },
	{}
};
