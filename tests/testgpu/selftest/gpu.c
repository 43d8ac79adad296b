/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "selftest.h"

/* One ioctl on a control node of its own, so that no check depends on another's. */
int gpu_ioctl(unsigned long request, void *arg)
{
	int fd = open(PEERMEM_TESTGPU_DEVICE, O_RDWR | O_CLOEXEC);
	int ret, saved;

	EXPECT(fd >= 0);
	ret = ioctl(fd, request, arg);
	saved = errno;
	close(fd);
	errno = saved;
	return ret;
}

struct peermem_testgpu_info gpu_info(void)
{
	struct peermem_testgpu_info info;

	EXPECT(!gpu_ioctl(PEERMEM_TESTGPU_IOC_INFO, &info));
	return info;
}

struct peermem_testgpu_alloc gpu_alloc(size_t size, uint32_t flags)
{
	struct peermem_testgpu_alloc alloc = { .size = size, .flags = flags };

	EXPECT(!gpu_ioctl(PEERMEM_TESTGPU_IOC_ALLOC, &alloc));
	return alloc;
}

int gpu_buffer(size_t size)
{
	return gpu_alloc(size, 0).fd;
}

struct peermem_testgpu_reset gpu_reset(void)
{
	struct peermem_testgpu_reset reset;

	EXPECT(!gpu_ioctl(PEERMEM_TESTGPU_IOC_RESET, &reset));
	return reset;
}

uint8_t *map_fd(int fd, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	EXPECT(at != MAP_FAILED);
	return at;
}

static sigjmp_buf bus_error;

static void on_sigbus(int signal)
{
	(void)signal;
	siglongjmp(bus_error, 1);
}

int touch_raises_sigbus(const volatile uint8_t *at)
{
	struct sigaction action = { .sa_handler = on_sigbus }, old;
	volatile int raised = 1;

	sigaction(SIGBUS, &action, &old);
	if (!sigsetjmp(bus_error, 1)) {
		(void)*at;
		raised = 0;
	}
	sigaction(SIGBUS, &old, NULL);
	return raised;
}

/* A byte that depends on all bits of seed and position (splitmix64). */
static uint8_t byte_of(uint64_t seed, uint64_t position)
{
	uint64_t x = (seed << 32) + position * 0x9e3779b97f4a7c15u;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return (uint8_t)(x ^ (x >> 31));
}

void fill(uint8_t *at, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		at[i] = byte_of(seed, i);
}

int holds(const uint8_t *at, size_t size, uint64_t seed)
{
	for (size_t i = 0; i < size; i++)
		if (at[i] != byte_of(seed, i))
			return 0;
	return 1;
}

int holds_byte(const uint8_t *at, size_t size, uint8_t byte)
{
	for (size_t i = 0; i < size; i++)
		if (at[i] != byte)
			return 0;
	return 1;
}

int unload_module(void)
{
	return (int)syscall(SYS_delete_module, "peermem_testgpu", O_NONBLOCK);
}
