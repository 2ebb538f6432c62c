/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/fc-doors.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"

static_assert(FC_REGIONS_BYTES_MAX > FAKE_SECTION_MAX, "tests have a few regions only");

void fc_image_of(struct fc_plan *plan, bool with_table)
{
        const struct fc_regions *m = &plan->memory;
        uint8_t section[FC_REGIONS_BYTES_MAX];
        size_t bytes = fc_regions_encode(m, section);

        plan->image.disk_bytes = m->at[m->n - 1].gpa + m->at[m->n - 1].bytes;
        if (!with_table)
                return;
        TEST(bytes <= FAKE_SECTION_MAX);
        memcpy(plan->image.section, section, bytes);
        plan->image.section_bytes = (uint32_t)bytes;
}

static void add_door(struct fc_doors *d, struct fc_plan *plan)
{
        struct server_options *o = &d->server.options;
        unsigned i = d->n++;

        TEST(i < FC_DOORS_MAX);
        d->image_fd[i] = fake_image_file(&plan->image);
        TEST(d->image_fd[i] >= 0);
        snprintf(d->image_path[i], sizeof(d->image_path[i]), "/proc/self/fd/%d", d->image_fd[i]);
        snprintf(plan->socket_path, sizeof(plan->socket_path), "%s/fc%u", d->server.folder, i);
        strcpy(o->fc[o->fcs].socket_path, plan->socket_path);
        o->fc[o->fcs++].image_path = d->image_path[i];
}

/* The doors are opened behind the one that is waited for. Whoever connects and says
 * nothing does no harm. */
static void await(const char *path)
{
        struct timespec moment = { .tv_nsec = 1000000 };
        int sock;

        for (int i = 0; i < 10000 && access(path, F_OK) < 0; i++)
                nanosleep(&moment, NULL);
        while ((sock = fc_try_dial(path)) < 0)
                nanosleep(&moment, NULL);
        close(sock);
}

/* Hearing of the server makes what it did before known to this thread; TSan would not
 * know it of the signal that ends it. */
static void greet(const struct fc_doors *d)
{
        const struct ps_hello h = {
                .image_fds = d->image_fd, .nimages = 1, .image_path = "fake image",
                .lane = PS_LANE_COPY, .cache_fd = -1, .filled_fd = -1,
        };
        struct ps_client *c;
        struct ps_welcome w;
        struct err e;

        MUST(ps_client_connect(d->server.path, &c, &e), &e);
        MUST(ps_client_hello(c, &h, &w, &e), &e);
        ps_client_free(c);
}

void fc_doors_open(struct fc_doors *d, struct fc_plan *plan, unsigned n, unsigned workers)
{
        struct server_options *o = &d->server.options;

        test_server_name(&d->server);
        o->socket_path = d->server.path;
        o->workers = workers;
        o->prefetch_limit = UINT64_MAX;
        for (unsigned i = 0; i < n; i++)
                add_door(d, &plan[i]);
        test_server_launch(&d->server);
        test_server_await(&d->server);
        for (unsigned i = 0; i < n; i++)
                await(plan[i].socket_path);
        greet(d);
}

void fc_doors_close(struct fc_doors *d)
{
        for (unsigned i = 0; i < d->n; i++)
                close(d->image_fd[i]);
        test_server_stop(&d->server);
}

/* Opens none itself: TSan takes a number that the server closes at the same time
 * for a race. */
unsigned fc_open_files(void)
{
        unsigned n = 0;

        for (int fd = 0; fd < 4096; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

void fc_files_come_back_to(unsigned n)
{
        struct timespec moment = { .tv_nsec = 10000000 };

        for (int i = 0; fc_open_files() > n && i < 1000; i++)
                nanosleep(&moment, NULL);
        TEST(fc_open_files() <= n);
        printf("ok: no descriptor is lost\n");
}
