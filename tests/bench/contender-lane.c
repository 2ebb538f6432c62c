/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/client.h"
#include "pageserver/uffd.h"
#include "tests/bench/contender.h"

#define STRIPE_BYTES (2u << 20)         /* a userfaultfd's part ends on a huge page's border */

/* A private server is ended and buried: its cache is free memory before the next
 * round. (By itself it would stay as long as we live: our memory might come back.) */
static void lane_close(struct contender *c)
{
        struct lane *l = (struct lane *)c;

        if (c->ram)
                munmap(c->ram, c->bytes);
        c->ram = NULL;
        for (size_t i = 0; i < ARRAY_SIZE(l->uffd); i++)
                fd_close(&l->uffd[i]);
        fd_close(&l->map_fd);
        fd_close(&l->image_fd);
        if (l->client)
                ps_client_abandon(l->client);
        l->client = NULL;
        c->server = 0;
}

static int say_hello(struct lane *l, struct err *e)
{
        struct ps_welcome welcome;
        struct ps_hello hello = {
                .image_fds = &l->image_fd, .nimages = 1, .image_path = l->image,
                .lane = l->copy ? PS_LANE_COPY : PS_LANE_SHARED,
                .prefetch_rate = l->prefetch, .hold_percent = l->hold_percent,
                .record = l->record, .cache_fd = -1, .filled_fd = -1, .map_fd = -1,
                .removed_fd = -1,
        };
        int rc = ps_client_hello(l->client, &hello, &welcome, e);

        if (rc < 0)
                return rc;
        l->map_fd = welcome.map_fd;
        fd_close(&welcome.cache_fd);
        fd_close(&welcome.filled_fd);
        if (welcome.disk_bytes < l->c.bytes)
                return err_msg(e, EINVAL, "'%s' is smaller than the area", l->image);
        return 0;
}

/* INV-HOLE: registered before it is accessible */
static int map_area(struct lane *l, struct ps_region region[2], struct err *e)
{
        size_t half = ALIGN_DOWN(l->c.bytes / 2, STRIPE_BYTES);
        int flags = MAP_PRIVATE | (l->copy ? MAP_ANONYMOUS : 0);
        int rc = 0;

        l->c.ram = mmap(NULL, l->c.bytes, PROT_NONE, flags, l->map_fd, 0);
        ASSERT(l->c.ram != MAP_FAILED);
        madvise(l->c.ram, l->c.bytes, MADV_NOHUGEPAGE);
        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(l->uffd); i++) {
                region[i] = (struct ps_region){
                        .hva = (uintptr_t)l->c.ram + i * half, .gpa = i * half, .uffd = i,
                        .bytes = i ? l->c.bytes - half : half,
                };
                rc = uffd_open(0, &l->uffd[i], e);
                if (rc == 0)
                        rc = uffd_register_missing(l->uffd[i], region[i].hva, region[i].bytes, e);
        }
        if (rc == 0 && mprotect(l->c.ram, l->c.bytes, PROT_READ | PROT_WRITE) < 0)
                rc = err_set(e, errno, "cannot make memory accessible");
        return rc;
}

static int lane_open(struct contender *c, struct err *e)
{
        struct lane *l = (struct lane *)c;
        struct ps_region region[ARRAY_SIZE(l->uffd)];

        l->client = NULL;
        l->map_fd = l->uffd[0] = l->uffd[1] = -1;
        l->image_fd = open(l->image, O_RDONLY | O_CLOEXEC);
        if (l->image_fd < 0)
                return err_set(e, errno, "open '%s'", l->image);

        int rc = l->socket ? ps_client_connect(l->socket, &l->client, e)
                           : ps_client_spawn(l->program, &l->client, e);

        if (rc < 0)
                return rc;
        c->server = l->socket ? 0 : ps_client_pid(l->client);
        rc = say_hello(l, e);
        if (rc == 0)
                rc = map_area(l, region, e);
        if (rc == 0)
                rc = ps_client_attach(l->client, region, ARRAY_SIZE(region), l->uffd,
                                      ARRAY_SIZE(l->uffd), false, e);
        if (rc < 0)
                lane_close(c);
        return rc;
}

int lane_wait_resident(struct lane *l, struct err *e)
{
        struct ps_event event;
        int rc;

        do
                rc = ps_client_event(l->client, &event, e);
        while (rc == 0 && event.type == PS_EVENT_STATS);
        if (rc < 0)
                return rc;
        if (event.type == PS_EVENT_BAD_PAGE)
                return err_msg(e, EIO, "'%s': %s", l->image, event.text);
        return 0;
}

static bool answers(const char *socket)
{
        struct ps_client *client;

        if (ps_client_connect(socket, &client, NULL) < 0)
                return false;
        ps_client_free(client);
        return true;
}

int lane_daemon(const char *program, const char *socket, pid_t *ret_pid, struct err *e)
{
        char *argv[] = { (char *)program, (char *)"--socket", (char *)socket, NULL };
        struct timespec moment = { .tv_nsec = (long)NS_PER_MS };
        posix_spawn_file_actions_t files;
        pid_t pid;

        /* it says who comes and goes */
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);

        int rc = posix_spawn(&pid, program, &files, NULL, argv, environ);

        posix_spawn_file_actions_destroy(&files);
        if (rc != 0)
                return err_set(e, rc, "start '%s'", program);
        for (int i = 0; i < 5000; i++) {
                if (answers(socket)) {
                        *ret_pid = pid;
                        return 0;
                }
                nanosleep(&moment, NULL);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return err_msg(e, ETIMEDOUT, "'%s' does not answer at '%s'", program, socket);
}

const struct contender_ops contender_lane = { .open = lane_open, .close = lane_close };
