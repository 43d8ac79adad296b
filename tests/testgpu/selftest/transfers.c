/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* RDMA in and out of buffers, every byte compared, the bytes around it too. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "selftest.h"

#define BUFFER MIB(5)
#define UNTOUCHED 0xee

static const size_t sizes[] = {
	1, 8, 63, 1000, 1024, 4095, 4096, 4097, KIB(64) + 5, MIB(1) - 1, MIB(4),
};

/* Where in the source and in the target a transfer begins: aligned, odd, across pages. */
static const struct {
	size_t from, to;
} places[] = {
	{ 0, 0 }, { 1, 0 }, { 0, 3 }, { 7, 4091 }, { PAGE - 1, PAGE + 1 }, { 64, 2048 },
};

/* One end of a transfer: memory as the CPU sees it, and the same as a memory region. */
struct end {
	uint8_t *at;
	struct ibv_mr *mr;
	uint64_t iova;
	int fd;
};

static struct end host_end(struct loopback *loop)
{
	struct end end = { .fd = -1 };

	end.at = mmap(NULL, BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	EXPECT(end.at != MAP_FAILED);
	EXPECT((end.mr = ibv_reg_mr(loop->pd, end.at, BUFFER, ACCESS_ALL)));
	end.iova = (uintptr_t)end.at;
	return end;
}

static struct end gpu_end(struct loopback *loop, uint64_t iova)
{
	struct end end = { .fd = gpu_buffer(BUFFER), .iova = iova };

	end.at = map_fd(end.fd, BUFFER);
	EXPECT((end.mr = ibv_reg_dmabuf_mr(loop->pd, 0, BUFFER, iova, end.fd, ACCESS_ALL)));
	return end;
}

static void end_close(struct end *end)
{
	EXPECT(!ibv_dereg_mr(end->mr));
	munmap(end->at, BUFFER);
	if (end->fd >= 0)
		close(end->fd);
}

static void expect_only(const uint8_t *at, size_t place, size_t size, uint64_t seed)
{
	EXPECT(holds_byte(at, place, UNTOUCHED));
	EXPECT(holds(at + place, size, seed));
	EXPECT(holds_byte(at + place + size, BUFFER - place - size, UNTOUCHED));
}

/* Writes from @a to @b and reads back from @b to @a, in all sizes and places. */
static void transfer_both_ways(struct loopback *loop, struct end *a, struct end *b)
{
	uint64_t seed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(places); i++) {
		size_t size = sizes[i / ARRAY_SIZE(places)];
		size_t from = places[i % ARRAY_SIZE(places)].from;
		size_t to = places[i % ARRAY_SIZE(places)].to;
		struct ibv_sge local = { a->iova + from, (uint32_t)size, a->mr->lkey };

		/* Large ones take time under emulation: two places are enough. */
		if (size > KIB(128) && i % ARRAY_SIZE(places) > 1)
			continue;

		fill(a->at + from, size, ++seed);
		memset(b->at, UNTOUCHED, BUFFER);
		EXPECT(loopback_copy(loop, IBV_WR_RDMA_WRITE, local, b->iova + to, b->mr->rkey) ==
		       IBV_WC_SUCCESS);
		expect_only(b->at, to, size, seed);

		fill(b->at + to, size, ++seed);
		memset(a->at, UNTOUCHED, BUFFER);
		EXPECT(loopback_copy(loop, IBV_WR_RDMA_READ, local, b->iova + to, b->mr->rkey) ==
		       IBV_WC_SUCCESS);
		expect_only(a->at, from, size, seed);
	}
}

static void host_to_gpu_is_byte_exact(void)
{
	struct loopback loop = loopback_open();
	struct end host = host_end(&loop), gpu = gpu_end(&loop, 0x7000000000);

	transfer_both_ways(&loop, &host, &gpu);
	end_close(&host);
	end_close(&gpu);
	loopback_close(&loop);
}

static void gpu_to_gpu_is_byte_exact(void)
{
	struct loopback loop = loopback_open();
	struct end one = gpu_end(&loop, 0), other = gpu_end(&loop, 1ull << 62);

	transfer_both_ways(&loop, &one, &other);
	end_close(&one);
	end_close(&other);
	loopback_close(&loop);
}

/* A region over a part of a buffer: starts at its offset, ends at its length. */
static void region_of_a_part_stays_inside(void)
{
	const size_t offset = 3 * PAGE + 0x123, length = 2 * PAGE + 77;
	const uint64_t iova = 0x5000000123;
	struct loopback loop = loopback_open();
	struct end host = host_end(&loop);
	int fd = gpu_buffer(BUFFER);
	uint8_t *at = map_fd(fd, BUFFER);
	struct ibv_mr *mr = ibv_reg_dmabuf_mr(loop.pd, offset, length, iova, fd, ACCESS_ALL);
	struct ibv_sge local = { host.iova, (uint32_t)length, host.mr->lkey };

	EXPECT(mr);
	fill(host.at, length, 9);
	memset(at, UNTOUCHED, BUFFER);
	EXPECT(loopback_copy(&loop, IBV_WR_RDMA_WRITE, local, iova, mr->rkey) == IBV_WC_SUCCESS);
	expect_only(at, offset, length, 9);

	EXPECT(loopback_copy(&loop, IBV_WR_RDMA_WRITE, local, iova + 1, mr->rkey) ==
	       IBV_WC_REM_ACCESS_ERR);
	expect_only(at, offset, length, 9);

	EXPECT(!ibv_dereg_mr(mr));
	munmap(at, BUFFER);
	close(fd);
	end_close(&host);
	loopback_close(&loop);
}

/* The region is all that a transfer needs: no fd, no mapping. */
static void region_works_without_fd_and_mapping(void)
{
	struct loopback loop = loopback_open();
	struct end host = host_end(&loop);
	int fd = gpu_buffer(KIB(64));
	struct ibv_mr *mr = ibv_reg_dmabuf_mr(loop.pd, 0, KIB(64), 0, fd, ACCESS_ALL);
	struct ibv_sge local = { host.iova, KIB(64), host.mr->lkey };

	EXPECT(mr);
	close(fd);
	fill(host.at, KIB(64), 4);
	EXPECT(loopback_copy(&loop, IBV_WR_RDMA_WRITE, local, 0, mr->rkey) == IBV_WC_SUCCESS);
	memset(host.at, 0, KIB(64));
	EXPECT(loopback_copy(&loop, IBV_WR_RDMA_READ, local, 0, mr->rkey) == IBV_WC_SUCCESS);
	EXPECT(holds(host.at, KIB(64), 4));
	EXPECT(!ibv_dereg_mr(mr));
	end_close(&host);
	loopback_close(&loop);
}

static void atomic_adds_in_gpu_memory(void)
{
	struct loopback loop = loopback_open();
	struct end host = host_end(&loop), gpu = gpu_end(&loop, 0x9000000000);
	volatile uint64_t *counter = (uint64_t *)(gpu.at + PAGE + 8), *old = (uint64_t *)host.at;
	struct ibv_sge local = { host.iova, sizeof(*old), host.mr->lkey };
	struct ibv_send_wr wr = {
		.sg_list = &local,
		.num_sge = 1,
		.opcode = IBV_WR_ATOMIC_FETCH_AND_ADD,
		.wr.atomic = { .remote_addr = gpu.iova + PAGE + 8, .compare_add = 5,
			       .rkey = gpu.mr->rkey },
	};

	*counter = 0x0123456789abcdef;
	EXPECT(loopback_run(&loop, &wr) == IBV_WC_SUCCESS);
	EXPECT(*old == 0x0123456789abcdef);
	EXPECT(*counter == 0x0123456789abcdef + 5);
	end_close(&host);
	end_close(&gpu);
	loopback_close(&loop);
}

const struct check transfer_checks[] = {
	{ "host_to_gpu_is_byte_exact", host_to_gpu_is_byte_exact },
	{ "gpu_to_gpu_is_byte_exact", gpu_to_gpu_is_byte_exact },
	{ "region_of_a_part_stays_inside", region_of_a_part_stays_inside },
	{ "region_works_without_fd_and_mapping", region_works_without_fd_and_mapping },
	{ "atomic_adds_in_gpu_memory", atomic_adds_in_gpu_memory },
	{}
};
