/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: guests of Firecracker, of every version's handshake, read every byte of their
 *       image, whatever clusters and pages it has; what their balloons give back is
 *       zeros from then on, also while faults are served and prefetch runs; a guest that
 *       ends leaves nothing behind.
 * Method: a server with a door for each row of the table and two clients (fc-client.h)
 *       at each at the same time; then all descriptors must be closed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/stress/fc-client.h"
#include "tests/stress/fc-doors.h"

#define MIB (1ull << 20)
#define HUGE (2u << 20)
#define CLIENTS 2
#define HUGE_PAGES "/proc/sys/vm/nr_hugepages"
/* of the rows with huge pages, for all clients that may run at a time */
#define HUGE_PAGES_NEEDED 24

struct round {
        const char *name;
        enum fc_version version;
        uint32_t cluster_bits;
        uint32_t page_bytes;
        bool has_table;                 /* the image has FC-REGIONS, and holes */
        bool balloon;
        bool stays;
};

static const struct round rounds[] = {
        { "v1.1, 4 KiB, no table",             FC_V1_1, 12, FC_PAGE, false, false, false },
        { "v1.1, 16 KiB, stays",               FC_V1_1, 14, FC_PAGE, true, false, true },
        { "v1.7, 64 KiB",                      FC_V1_7, 16, FC_PAGE, true, false, false },
        { "v1.7, 4 KiB, balloon",              FC_V1_7, 12, FC_PAGE, true, true, false },
        { "v1.12, 16 KiB",                     FC_V1_12, 14, FC_PAGE, true, false, false },
        { "v1.12, 4 KiB, balloon, no table",   FC_V1_12, 12, FC_PAGE, false, true, false },
        { "v1.12, 16 KiB, balloon",            FC_V1_12, 14, FC_PAGE, true, true, false },
        { "v1.12, 2 MiB clusters, balloon",    FC_V1_12, 21, FC_PAGE, true, true, false },
        { "v1.12, 16 KiB, stays",              FC_V1_12, 14, FC_PAGE, true, false, true },
        { "v1.7, 2 MiB pages",                 FC_V1_7, 14, HUGE, true, false, false },
        { "v1.12, 2 MiB pages, balloon",       FC_V1_12, 14, HUGE, true, true, false },
        { "v1.12, 2 MiB pages and clusters",   FC_V1_12, 21, HUGE, false, true, false },
};

/* ---- huge pages of the host ---------------------------------------------- */

static long read_huge(void)
{
        char text[32] = "";
        AUTO_FD fd = open(HUGE_PAGES, O_RDONLY | O_CLOEXEC);

        return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 ? strtol(text, NULL, 10) : -1;
}

static void add_huge(long more)
{
        char text[32];
        AUTO_FD fd = open(HUGE_PAGES, O_WRONLY | O_CLOEXEC);
        int n = snprintf(text, sizeof(text), "%ld", read_huge() + more);

        if (fd >= 0)
                io_write_full(fd, text, (size_t)n);
}

/* Returns how many were added: 0 = there are none to be had. */
static long get_huge(void)
{
        long before = read_huge();

        if (before < 0)
                return 0;
        add_huge(HUGE_PAGES_NEEDED);

        long got = read_huge() - before;

        if (got < HUGE_PAGES_NEEDED)
                add_huge(-got);
        return got < HUGE_PAGES_NEEDED ? 0 : got;
}

/* ---- a row --------------------------------------------------------------- */

static void lay_out(const struct round *r, struct fc_plan *plan)
{
        const uint64_t small[] = { 3 * MIB, 5 * MIB + 3 * FC_PAGE, FC_PAGE };
        const uint64_t huge[] = { 2 * MIB, 6 * MIB, 2 * MIB };
        const uint64_t one[] = { 8 * MIB };

        plan->memory.page_bytes = r->page_bytes;
        if (!r->has_table)
                fc_plan_regions(plan, one, 1);
        else if (r->page_bytes == HUGE)
                fc_plan_regions(plan, huge, ARRAY_SIZE(huge));
        else
                fc_plan_regions(plan, small, ARRAY_SIZE(small));
}

static void make_plan(const struct round *r, struct fc_plan *plan)
{
        *plan = (struct fc_plan){
                .version = r->version, .threads = 2, .balloon = r->balloon, .stays = r->stays,
                .image = { .seed = 40 + (uint64_t)(r - rounds), .cluster_bits = r->cluster_bits,
                           .slow_us = 100 },
        };
        lay_out(r, plan);
        fc_image_of(plan, r->has_table);
}

static bool runs_here(const struct round *r, bool has_huge)
{
        if (r->page_bytes != HUGE || has_huge)
                return true;
        printf("skipped: %s: no huge pages can be had (%s)\n", r->name, HUGE_PAGES);
        return false;
}

/* A guest that stays is killed once its memory has been read: it never ends by itself. */
static void finish(const struct round *r, pid_t pid)
{
        struct timespec moment = { .tv_nsec = 300000000 };

        if (!r->stays) {
                fc_client_good(pid);
                return;
        }
        nanosleep(&moment, NULL);
        fc_client_kill(pid);
}

static void play(const struct round *r, const struct fc_plan *plan)
{
        pid_t pid[CLIENTS];

        for (unsigned i = 0; i < CLIENTS; i++)
                pid[i] = fc_client_start(plan);
        for (unsigned i = 0; i < CLIENTS; i++)
                finish(r, pid[i]);
        printf("ok: %s\n", r->name);
}

static void restore_all(bool has_huge)
{
        static struct fc_plan plan[ARRAY_SIZE(rounds)];
        static struct fc_doors doors;

        alarm(300);
        for (size_t i = 0; i < ARRAY_SIZE(rounds); i++)
                make_plan(&rounds[i], &plan[i]);
        fc_doors_open(&doors, plan, ARRAY_SIZE(rounds), 3);

        unsigned before = fc_open_files();

        for (size_t i = 0; i < ARRAY_SIZE(rounds); i++) {
                if (runs_here(&rounds[i], has_huge))
                        play(&rounds[i], &plan[i]);
        }
        fc_files_come_back_to(before);
        fc_doors_close(&doors);
}

/* The test is a child: whatever becomes of it, the huge pages are given back. */
int main(int argc, char **argv)
{
        int status = -1;

        fc_client_role(argc, argv);
        setbuf(stdout, NULL);
        guest_need_uffd();

        long huge = get_huge();
        pid_t pid = fork();

        if (pid == 0) {
                restore_all(huge > 0);
                exit(0);
        }
        waitpid(pid, &status, 0);
        if (huge > 0)
                add_huge(-huge);
        return status != 0;
}
