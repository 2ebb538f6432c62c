/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/pager-vm.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "tests/stress/ps-server.h"
#include "tests/stress/touch.h"

#define PAGE 4096u
#define PATIENCE_NS (30 * NS_PER_SEC)
#define TEST_SECONDS 120
#define PID_FILE "PAGER_VM_PID"

/* ---- servers ------------------------------------------------------------------------ */

static void tell_pid(void)
{
        const char *path = getenv(PID_FILE);
        AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
        pid_t pid = getpid();

        TEST(fd >= 0 && pwrite(fd, &pid, sizeof(pid), 0) == sizeof(pid));
}

pid_t vm_server_pid(void)
{
        AUTO_FD fd = open(getenv(PID_FILE), O_RDONLY | O_CLOEXEC);
        pid_t pid = 0;

        TEST(fd >= 0 && pread(fd, &pid, sizeof(pid), 0) == sizeof(pid));
        return pid;
}

/* A server may have been stopped. */
static void clean_up(void)
{
        const char *path = getenv(PID_FILE);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        pid_t pid;

        if (fd >= 0 && pread(fd, &pid, sizeof(pid), 0) == sizeof(pid) &&
            waitpid(pid, NULL, WNOHANG) == 0)
                kill(pid, SIGKILL);
        unlink(path);
}

static void too_late(int sig)
{
        static const char text[] = "the test took too long\n";

        (void)sig;
        (void)!write(STDERR_FILENO, text, sizeof(text) - 1);
        clean_up();
        _exit(1);
}

void vm_servers(int argc, char **argv)
{
        char path[] = "pager-vm-XXXXXX";

        if (argc == 2 && !strcmp(argv[1], "--private"))
                tell_pid();
        test_server_role(argc, argv);

        AUTO_FD fd = mkstemp(path);

        TEST(fd >= 0 && setenv(PID_FILE, path, 1) == 0);
        TEST(setenv("SNAPBACK_PAGESERVER", "/proc/self/exe", 1) == 0);
        TEST(atexit(clean_up) == 0 && signal(SIGALRM, too_late) != SIG_ERR);
        alarm(TEST_SECONDS);
}

void vm_await_restarts(struct vm *vm, unsigned n)
{
        uint64_t end_ns = clock_now_ns() + PATIENCE_NS;
        struct pager_news news = { 0 };

        while (news.restarts < n && clock_now_ns() < end_ns) {
                sleep_ms(5);
                pager_news(vm->pager, false, &news);
        }
        TEST(news.restarts >= n);
}

/* ---- RAM ------------------------------------------------------------------------------ */

static void no_news(void *ctx)
{
        (void)ctx;
}

void vm_up(struct vm *vm, enum ps_lane lane, unsigned slow_us)
{
        struct pager_options with = {
                .image_path = "fake image", .lane = lane, .prefetch_rate = PS_PREFETCH_OFF,
        };
        struct err e;

        *vm = (struct vm){ .image = {
                .seed = 77, .disk_bytes = RAM_BYTES_MIN, .cluster_bits = 13, .slow_us = slow_us,
        } };
        vm->image_fd = fake_image_file(&vm->image);
        MUST(qs_image_open_chain(&vm->image_fd, 1, "fake image", NULL, &vm->qs, &e), &e);
        with.image = vm->qs;
        MUST(ram_init(&vm->ram, RAM_BYTES_MIN, &e), &e);
        MUST(pager_new(&with, no_news, NULL, &vm->pager, &e), &e);
        MUST(pager_start(vm->pager, &vm->ram, &e), &e);
        TEST(pager_lane(vm->pager) == lane);
        if (!pager_stripes(vm->pager)->can_protect) {
                printf("skipped: this kernel cannot protect such memory\n");
                exit(77);
        }
}

void vm_down(struct vm *vm)
{
        ram_unmap(&vm->ram);
        pager_wake(vm->pager);
        pager_free(vm->pager);
        qs_image_close(vm->qs);
        close(vm->image_fd);
}

void *vm_page(const struct vm *vm, uint64_t page)
{
        return vm->ram.slots[0].hva + page * PAGE;
}
