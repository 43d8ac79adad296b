/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifndef SELFTEST_H
#define SELFTEST_H

#include <errno.h>
#include <infiniband/verbs.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "peermem_testgpu.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define PAGE ((size_t)4096)

/* Ends the check that runs as failed, naming the expression and errno, unless it holds. */
#define EXPECT(condition) \
	do { \
		if (!(condition)) \
			check_failed(__FILE__, __LINE__, #condition); \
	} while (0)

/* The same for a call that must fail with a certain errno. */
#define EXPECT_ERRNO(failed, expected) \
	do { \
		errno = 0; \
		if (!(failed) || errno != (expected)) \
			check_failed(__FILE__, __LINE__, #failed ", " #expected); \
	} while (0)

struct check {
	const char *name;
	void (*run)(void);
};

extern const struct check buffer_checks[];
extern const struct check reset_checks[];
extern const struct check region_checks[];
extern const struct check transfer_checks[];
extern const struct check removal_checks[];

/* regions.c: four regions over four buffers that nothing else holds; raises SIGSTOP and stays */
void hold_regions(void);

/* main.c */
void check_failed(const char *file, int line, const char *what) __attribute__((noreturn));
pid_t child_start(void (*body)(void));
int child_fails(void (*body)(void));
void child_kill(pid_t pid);
pid_t child_stopped(void (*body)(void));

/* gpu.c: the device, and bytes without a period */
struct peermem_testgpu_info gpu_info(void);
int gpu_ioctl(unsigned long request, void *arg);
struct peermem_testgpu_alloc gpu_alloc(size_t size, uint32_t flags);
int gpu_buffer(size_t size);
struct peermem_testgpu_reset gpu_reset(void);
uint8_t *map_fd(int fd, size_t size);
int touch_raises_sigbus(const volatile uint8_t *at);
void fill(uint8_t *at, size_t size, uint64_t seed);
int holds(const uint8_t *at, size_t size, uint64_t seed);
int holds_byte(const uint8_t *at, size_t size, uint8_t byte);
int unload_module(void);

/* rdma.c: soft-RoCE, two connected queue pairs on one device */
struct loopback {
	struct ibv_context *context;
	struct ibv_pd *pd;
	struct ibv_cq *cq;
	struct ibv_qp *near, *far;
};

#define ACCESS_ALL (IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE | \
		    IBV_ACCESS_REMOTE_READ | IBV_ACCESS_REMOTE_ATOMIC)

struct loopback loopback_open(void);
void loopback_close(struct loopback *loop);
enum ibv_wc_status loopback_run(struct loopback *loop, struct ibv_send_wr *wr);
enum ibv_wc_status loopback_copy(struct loopback *loop, enum ibv_wr_opcode opcode,
				 struct ibv_sge local, uint64_t remote_addr, uint32_t rkey);

#endif
