/* SPDX-License-Identifier: Apache-2.0 */
/* ps-working-set - until a guest has touched what it wants first.
 *
 * Goal:   a recorded working set beside the same without a record, and beside a guest
 *         that is loaded whole before it runs; all from a cold file.
 * Method: a guest is a thread that reads a word of each page of its working set, pieces
 *         of 4 to 128 KiB at places far apart, in an order of its own, as fast as it
 *         can. It is recorded once, into RECORDED. Then rounds over all ways in turn,
 *         each on a file that the page cache has dropped. Two times: from the
 *         beginning (the server is started, the client attaches), and from when the
 *         guest may run. Medians.
 * usage:  ps-working-set [-r ROUNDS] [-m MIB] PAGESERVER IMAGE RECORDED
 *         RECORDED: a copy of IMAGE. Prints "NAME TOTAL_US RUN_US" lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "pageserver/client.h"
#include "qcowstore/store.h"
#include "tests/bench/contender.h"
#include "tests/bench/sample.h"

#define PAGE 4096u
#define MIB 1048576ull
#define PIECE_BYTES (128u << 10)        /* one at most in each aligned block of these */

struct way {
        const char *name;
        bool recorded;
        bool copy;
        uint64_t prefetch;
        unsigned hold_percent;
        struct sample total, run;
};

static struct way ways[] = {
        { .name = "loaded", .copy = true, .prefetch = PS_PREFETCH_UNLIMITED, .hold_percent = 100 },
        { .name = "lazy-shared" },
        { .name = "lazy-copy", .copy = true },
        { .name = "prefetch-shared", .prefetch = PS_PREFETCH_UNLIMITED },
        { .name = "prefetch-copy", .copy = true, .prefetch = PS_PREFETCH_UNLIMITED },
        { .name = "recorded-shared", .recorded = true, .prefetch = PS_PREFETCH_UNLIMITED },
        { .name = "recorded-copy", .recorded = true, .copy = true,
          .prefetch = PS_PREFETCH_UNLIMITED },
        /* hold_percent: set to the working set's part */
        { .name = "held-copy", .recorded = true, .copy = true, .prefetch = PS_PREFETCH_UNLIMITED,
          .hold_percent = 1 },
};

struct bench {
        const char *pageserver, *image, *recorded;
        size_t bytes;                   /* of the guest */
        size_t set_bytes;
        uint64_t recorded_bytes;        /* of whole clusters */
        uint32_t *order;                /* of blocks */
        unsigned rounds;
};

/* pages that are wanted of a block: 1 to 32, always the same */
static size_t piece(uint32_t block)
{
        return (block * 2654435761u >> 16) % (PIECE_BYTES / PAGE) + 1;
}

/* The guest; returns what it read, so that it does. */
static uint64_t touch(const struct bench *b, const char *ram)
{
        uint64_t sum = 0;
        size_t done = 0;

        for (size_t i = 0; done < b->set_bytes; i++) {
                const char *at = ram + (size_t)b->order[i] * PIECE_BYTES;

                for (size_t k = 0; k < piece(b->order[i]); k++)
                        sum += *(const volatile uint64_t *)(const void *)(at + k * PAGE);
                done += piece(b->order[i]) * PAGE;
        }
        return sum;
}

static int drop_from_cache(const char *path, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0 || fdatasync(fd) < 0 || posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
                return err_set(e, errno, "drop '%s' from the page cache", path);
        return 0;
}

static struct lane lane_of(const struct bench *b, const struct way *w)
{
        return (struct lane){
                .c = { .ops = &contender_lane, .name = w->name, .bytes = b->bytes },
                .program = b->pageserver, .image = w->recorded ? b->recorded : b->image,
                .copy = w->copy, .prefetch = w->prefetch,
                .hold_percent = w->hold_percent % 100
                                ? (unsigned)(b->recorded_bytes * 100 / b->bytes) + 2
                                : w->hold_percent,
        };
}

static int run_once(const struct bench *b, struct way *w, struct err *e)
{
        struct lane l = lane_of(b, w);
        int rc = drop_from_cache(l.image, e);
        uint64_t begun_ns = clock_now_ns();

        if (rc == 0)
                rc = contender_open(&l.c, PLACE_FREE, e);
        if (rc < 0)
                return rc;

        uint64_t open_ns = clock_now_ns();

        touch(b, l.c.ram);

        uint64_t now_ns = clock_now_ns();

        sample_add(&w->total, now_ns - begun_ns);
        sample_add(&w->run, now_ns - open_ns);
        contender_close(&l.c);
        return 0;
}

static int store_record(struct bench *b, int fd, struct err *e)
{
        struct stat st;
        struct qs_ram_range *set = NULL;
        size_t n = 0;
        int rc = fstat(fd, &st) < 0 ? -errno : 0;
        AUTO_FREE void *data = rc == 0 ? malloc((size_t)st.st_size + 1) : NULL;

        ASSERT(data);
        rc = io_pread_full(fd, data, (size_t)st.st_size, 0);
        if (rc < 0)
                return err_set(e, -rc, "read the record");
        rc = qs_working_set_parse(data, (size_t)st.st_size, b->bytes, &set, &n, e);
        for (size_t i = 0; rc == 0 && i < n; i++)
                b->recorded_bytes += set[i].bytes;
        if (rc == 0)
                rc = qs_working_set_put(b->recorded, NULL, NULL, set, n, e);
        free(set);
        return rc;
}

/* Once: the guest touches, the server notes, the image keeps. */
static int record(struct bench *b, struct err *e)
{
        const struct way w = { .name = "record", .recorded = true, .copy = true };
        struct ps_event event = { .record_fd = -1 };
        struct lane l = lane_of(b, &w);

        l.record = true;

        int rc = contender_open(&l.c, PLACE_FREE, e);

        if (rc < 0)
                return rc;
        touch(b, l.c.ram);
        rc = ps_client_ask_record(l.client, e);
        while (rc == 0 && event.type != PS_EVENT_RECORD)
                rc = ps_client_event(l.client, &event, e);
        if (rc == 0)
                rc = store_record(b, event.record_fd, e);
        fd_close(&event.record_fd);
        contender_close(&l.c);
        return rc;
}

static int prepare(struct bench *b, struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(b->image, NULL, &image, e);

        if (rc < 0)
                return rc;
        b->bytes = ALIGN_DOWN(qs_image_info(image)->disk_bytes, PIECE_BYTES);
        qs_image_close(image);
        if (b->set_bytes > b->bytes / 3)
                return err_msg(e, EINVAL, "'%s' is too small for the working set", b->image);
        b->order = sample_shuffle(b->bytes / PIECE_BYTES, 1);
        return 0;
}

static int measure(struct bench *b, struct err *e)
{
        int rc = prepare(b, e);

        if (rc == 0)
                rc = record(b, e);
        for (unsigned r = 0; rc == 0 && r <= b->rounds; r++) {
                for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(ways); i++) {
                        rc = run_once(b, &ways[i], e);
                        if (r == 0) {           /* memory is warm from here on */
                                sample_free(&ways[i].total);
                                sample_free(&ways[i].run);
                        }
                }
        }
        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(ways); i++)
                printf("%s %llu %llu\n", ways[i].name,
                       (unsigned long long)(sample_part(&ways[i].total, 50) / NS_PER_US),
                       (unsigned long long)(sample_part(&ways[i].run, 50) / NS_PER_US));
        free(b->order);
        return rc;
}

int main(int argc, char **argv)
{
        struct bench b = { .rounds = 5, .set_bytes = 100 * MIB };
        struct err e;
        int c;

        while ((c = getopt(argc, argv, "r:m:")) != -1) {
                if (c == 'r')
                        b.rounds = (unsigned)atoi(optarg);
                else if (c == 'm')
                        b.set_bytes = (size_t)atoi(optarg) * MIB;
                else
                        return 2;
        }
        if (argc - optind != 3 || b.rounds == 0 || b.set_bytes == 0) {
                fprintf(stderr, "usage: ps-working-set [-r ROUNDS] [-m MIB] PAGESERVER IMAGE "
                        "RECORDED\n");
                return 2;
        }
        b.pageserver = argv[optind];
        b.image = argv[optind + 1];
        b.recorded = argv[optind + 2];
        if (measure(&b, &e) < 0) {
                err_print("ps-working-set", &e);
                return 1;
        }
        return 0;
}
