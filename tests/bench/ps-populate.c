/* SPDX-License-Identifier: Apache-2.0 */
/* ps-populate - how fast a whole guest is filled when nobody faults.
 *
 * Goal:   our prefetch beside the best that UFFDIO_COPY does here and beside what
 *         all CPUs decompress, in one run.
 * Method: rounds over all ways in turn, each fills the same area anew. Bare ways
 *         copy from one hot buffer into anonymous memory, or into a memfd by a
 *         mapping of it, as the two lanes have it; 1 and 2 threads, 1 and 2
 *         descriptors, calls of 64 KiB to 2 MiB. Ours: from the moment the server
 *         has the area to its word that nothing is missing. Medians.
 * usage:  ps-populate [-r ROUNDS] PAGESERVER RAW NONE ZSTD       (as ps-fault)
 *         Prints "NAME MIB_PER_S" lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/client.h"
#include "pageserver/uffd.h"
#include "tests/bench/contender.h"
#include "tests/bench/sample.h"
#include "tests/bench/streams.h"

#define KIB 1024u
#define PAGE 4096u
#define CLUSTER_BITS 14
#define THREADS_MAX 2u                  /* more are more CPUs' affair than the kernel's */
#define CPUS_MAX 64u
#define HOT_BYTES (2u << 20)
#define WAYS_MAX 40

/* One way to fill `bytes`: bare, unpacking only, or ours. */
struct way {
        char name[48];
        enum { WAY_COPY, WAY_UNPACK, WAY_LANE } kind;
        bool memfd;                     /* COPY: into a memfd, else anonymous memory */
        unsigned threads, descriptors;
        size_t call;
        struct lane lane;
        struct sample took;
};

struct bench {
        const char *pageserver, *raw, *none, *zstd;
        size_t bytes;
        unsigned rounds;
        struct streams streams;
        struct way way[WAYS_MAX];
        unsigned ways;
};

/* ---- bare copies ------------------------------------------------------------ */

struct copy {
        const struct way *way;
        char *area;
        size_t bytes;
        int uffd[THREADS_MAX];
        _Atomic size_t next;
        _Atomic bool failed;
};

static void *copy_part(void *arg)
{
        struct copy *c = arg;
        size_t call = c->way->call;
        char *hot = aligned_alloc(4096, HOT_BYTES);

        ASSERT(hot);
        memset(hot, 0x5a, HOT_BYTES);
        for (size_t at; (at = atomic_fetch_add(&c->next, call)) < c->bytes;) {
                int fd = c->uffd[at * c->way->descriptors / c->bytes];

                if (uffd_copy(fd, (uintptr_t)c->area + at, hot, call, PAGE) != UFFD_DONE)
                        c->failed = true;
        }
        free(hot);
        return NULL;
}

static int map_target(struct copy *c, struct err *e)
{
        const struct way *w = c->way;
        AUTO_FD fd = -1;
        int rc = 0;

        if (w->memfd) {
                fd = memfd_create("populate", MFD_CLOEXEC);
                if (fd < 0 || ftruncate(fd, (off_t)c->bytes) < 0)
                        return err_set(e, errno, "memfd");
        }
        c->area = mmap(NULL, c->bytes, PROT_READ | PROT_WRITE,
                       w->memfd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, fd, 0);
        ASSERT(c->area != MAP_FAILED);
        madvise(c->area, c->bytes, MADV_NOHUGEPAGE);

        size_t part = c->bytes / w->descriptors;

        for (unsigned i = 0; rc == 0 && i < w->descriptors; i++) {
                rc = uffd_open(0, &c->uffd[i], e);
                if (rc == 0)
                        rc = uffd_register_missing(c->uffd[i], (uintptr_t)c->area + i * part, part,
                                                   e);
        }
        return rc;
}

static uint64_t run_threads(unsigned n, void *(*run)(void *), void *arg)
{
        pthread_t thread[CPUS_MAX];
        uint64_t start = clock_now_ns();

        for (unsigned i = 0; i < n; i++) {
                int rc = pthread_create(&thread[i], NULL, run, arg);

                ASSERT(rc == 0);
        }
        for (unsigned i = 0; i < n; i++)
                pthread_join(thread[i], NULL);
        return clock_now_ns() - start;
}

static int fill_by_copy(struct bench *b, struct way *w, struct err *e)
{
        struct copy c = { .way = w, .bytes = b->bytes, .uffd = { -1, -1 } };
        int rc = map_target(&c, e);

        if (rc == 0)
                sample_add(&w->took, run_threads(w->threads, copy_part, &c));
        if (c.area)
                munmap(c.area, c.bytes);
        for (size_t i = 0; i < ARRAY_SIZE(c.uffd); i++)
                fd_close(&c.uffd[i]);
        return rc < 0 || !c.failed ? rc : err_msg(e, EIO, "%s: a copy failed", w->name);
}

/* ---- unpacking alone -------------------------------------------------------- */

struct unpack {
        const struct streams *streams;
        _Atomic size_t next;
};

static void *unpack_part(void *arg)
{
        struct unpack *u = arg;
        AUTO_FREE uint8_t *out = malloc(u->streams->cluster);
        ZSTD_DCtx *zstd = ZSTD_createDCtx();
        const size_t step = 16;

        ASSERT(out && zstd);
        for (size_t at; (at = atomic_fetch_add(&u->next, step)) < u->streams->n;) {
                for (size_t i = at; i < MIN(at + step, u->streams->n); i++)
                        streams_unpack(u->streams, i, zstd, out);
        }
        ZSTD_freeDCtx(zstd);
        return NULL;
}

static void unpack_all(struct bench *b, struct way *w)
{
        struct unpack u = { .streams = &b->streams };

        sample_add(&w->took, run_threads(w->threads, unpack_part, &u));
}

/* ---- ours ------------------------------------------------------------------- */

/* Prefetch is let loose by a message: so the area is ready before the clock runs. */
static int fill_by_lane(struct way *w, struct err *e)
{
        struct lane *l = &w->lane;
        int rc = contender_open(&l->c, PLACE_FREE, e);

        if (rc < 0)
                return rc;

        uint64_t start = clock_now_ns();

        rc = ps_client_prefetch(l->client, PS_PREFETCH_UNLIMITED, e);
        if (rc == 0)
                rc = lane_wait_resident(l, e);
        if (rc == 0)
                sample_add(&w->took, clock_now_ns() - start);
        contender_close(&l->c);
        return rc;
}

/* ---- the ways --------------------------------------------------------------- */

static struct way *add_way(struct bench *b)
{
        ASSERT(b->ways < WAYS_MAX);
        return &b->way[b->ways++];
}

static void add_copies(struct bench *b)
{
        static const size_t call[] = { 64 * KIB, 256 * KIB, 2048 * KIB };

        for (unsigned memfd = 0; memfd < 2; memfd++) {
                for (unsigned how = 0; how < 3; how++) {
                        for (size_t i = 0; i < ARRAY_SIZE(call); i++) {
                                struct way *w = add_way(b);

                                w->memfd = memfd;
                                w->threads = how > 0 ? 2 : 1;
                                w->descriptors = how > 1 ? 2 : 1;
                                w->call = call[i];
                                snprintf(w->name, sizeof(w->name), "bare-%s-%ut-%ud-%zuK",
                                         memfd ? "memfd" : "anon", w->threads, w->descriptors,
                                         w->call / KIB);
                        }
                }
        }
}

static void add_unpack(struct bench *b)
{
        struct way *w = add_way(b);
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);

        w->kind = WAY_UNPACK;
        w->threads = (unsigned)MIN(MAX(cpus, 1), CPUS_MAX);
        snprintf(w->name, sizeof(w->name), "unpack");
}

static void add_lanes(struct bench *b)
{
        for (unsigned i = 0; i < 4; i++) {
                struct way *w = add_way(b);
                bool zstd = i & 1;
                bool copy = i & 2;

                w->kind = WAY_LANE;
                snprintf(w->name, sizeof(w->name), "%s-%s", copy ? "copy" : "shared",
                         zstd ? "zstd" : "none");
                w->lane = (struct lane){
                        .c = { .ops = &contender_lane, .name = w->name, .bytes = b->bytes },
                        .program = b->pageserver, .image = zstd ? b->zstd : b->none,
                        .copy = copy, .prefetch = PS_PREFETCH_OFF,
                };
        }
}

static int fill(struct bench *b, struct way *w, struct err *e)
{
        switch (w->kind) {
        case WAY_COPY:
                return fill_by_copy(b, w, e);
        case WAY_UNPACK:
                unpack_all(b, w);
                return 0;
        case WAY_LANE:
                return fill_by_lane(w, e);
        }
        return 0;
}

/* ---- program ---------------------------------------------------------------- */

static int pack(struct bench *b, struct err *e)
{
        AUTO_FD fd = open(b->raw, O_RDONLY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open '%s'", b->raw);
        b->bytes = ALIGN_DOWN((size_t)st.st_size, 2 * HOT_BYTES);

        uint8_t *plain = mmap(NULL, b->bytes, PROT_READ, MAP_SHARED, fd, 0);

        if (plain == MAP_FAILED)
                return err_set(e, errno, "map '%s'", b->raw);
        streams_make(&b->streams, plain, b->bytes, CLUSTER_BITS);
        munmap(plain, b->bytes);
        return 0;
}

static int run(struct bench *b, struct err *e)
{
        int rc = pack(b, e);

        if (rc < 0)
                return rc;
        add_copies(b);
        add_unpack(b);
        add_lanes(b);
        for (unsigned r = 0; r < b->rounds; r++) {
                for (unsigned i = 0; rc == 0 && i < b->ways; i++)
                        rc = fill(b, &b->way[i], e);
        }
        for (unsigned i = 0; rc == 0 && i < b->ways; i++) {
                double s = (double)sample_part(&b->way[i].took, 50) / NS_PER_SEC;

                printf("%s %.0f\n", b->way[i].name, (double)(b->bytes >> 20) / s);
        }
        return rc;
}

int main(int argc, char **argv)
{
        static struct bench b = { .rounds = 5 };
        struct err e = { 0 };
        int opt;

        while ((opt = getopt(argc, argv, "r:")) == 'r')
                b.rounds = (unsigned)atoi(optarg);
        if (opt != -1 || argc - optind != 4) {
                fprintf(stderr, "usage: ps-populate [-r ROUNDS] PAGESERVER RAW NONE ZSTD\n");
                return 2;
        }
        b.pageserver = argv[optind];
        b.raw = argv[optind + 1];
        b.none = argv[optind + 2];
        b.zstd = argv[optind + 3];
        if (run(&b, &e) < 0) {
                err_print("ps-populate", &e);
                return 1;
        }
        return 0;
}
