/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * The test GPU's own test, run in the guest as root with soft-RoCE up and
 * librxe_dmabuf.so preloaded. Prints "ok NAME" or "not ok NAME" for each check
 * and exits 0 if all are ok.
 *
 * selftest            everything but the next
 * selftest --remove   unplugs the adapter and brings it back, deletes the
 *                     soft-RoCE devices and unloads the module
 *
 * After each check the GPU must be as it was before: as many free bytes,
 * buffers and memory regions.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "selftest.h"

static sigjmp_buf failed;

void check_failed(const char *file, int line, const char *what)
{
	printf("# %s:%d: %s (%s)\n", file, line, what, strerror(errno));
	fflush(stdout);
	siglongjmp(failed, 1);
}

/* Starts a child that ends after @body: with status 0, or 1 if an EXPECT in it failed. */
pid_t child_start(void (*body)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		if (sigsetjmp(failed, 0))
			_exit(1);
		body();
		_exit(0);
	}
	EXPECT(pid > 0);
	return pid;
}

/* Runs @body in a child; true if an EXPECT in it failed, or it died. */
int child_fails(void (*body)(void))
{
	int status;
	pid_t pid = child_start(body);

	return waitpid(pid, &status, 0) != pid || status != 0;
}

void child_kill(pid_t pid)
{
	int status;

	EXPECT(!kill(pid, SIGKILL));
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Starts a child and returns when @body has raised SIGSTOP. */
pid_t child_stopped(void (*body)(void))
{
	int status;
	pid_t pid = child_start(body);

	EXPECT(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
	return pid;
}

/* A dying process drops some references in the background: allow it 5 s. */
static void expect_unchanged(const struct peermem_testgpu_info *before)
{
	struct peermem_testgpu_info now = gpu_info();

	for (int i = 0; i < 50 && now.free_bytes != before->free_bytes; i++) {
		usleep(100 * 1000);
		now = gpu_info();
	}
	EXPECT(now.free_bytes == before->free_bytes);
	EXPECT(now.buffers == before->buffers);
	EXPECT(now.memory_regions == before->memory_regions);
}

static int run_all(const struct check *checks, int compare)
{
	volatile int failures = 0;

	for (const struct check *volatile check = checks; check->name; check++) {
		if (sigsetjmp(failed, 1)) {
			printf("not ok %s\n", check->name);
			failures++;
		} else {
			struct peermem_testgpu_info before = {};

			if (compare)
				before = gpu_info();
			check->run();
			if (compare)
				expect_unchanged(&before);
			printf("ok %s\n", check->name);
		}
		fflush(stdout);
	}
	return failures;
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "--remove"))
		return run_all(removal_checks, 0) ? EXIT_FAILURE : EXIT_SUCCESS;
	if (argc != 1) {
		fprintf(stderr, "usage: %s [--remove]\n", argv[0]);
		return 2;
	}

	int failures = run_all(buffer_checks, 1) + run_all(region_checks, 1) +
		       run_all(transfer_checks, 1) + run_all(reset_checks, 1);

	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
