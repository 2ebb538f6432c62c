/* SPDX-License-Identifier: Apache-2.0 */
/* ps-fault - how long a thread waits for a page that is missing, by who brings it.
 *
 * Goal:   our page server beside its floors and its peers, in one run.
 * Method: one thread reads one byte of each of some windows of 64 KiB, in random
 *         order, with a clock around each access. Contenders take turns, round by
 *         round and placement by placement, all with the same windows of a round;
 *         the first accesses of a round are not counted. Where prefetch runs, an
 *         access counts only if the page was missing just before.
 * usage:  ps-fault [-n COUNTED_PER_ROUND] [-r ROUNDS] [-w NAME,NAME...] PAGESERVER RAW NONE ZSTD
 *         RAW is a flat file, dense with content; NONE and ZSTD are images of it. -w: only
 *         contenders of these names.
 *         Prints "NAME PLACEMENT P50_NS P99_NS COUNT" lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/client.h"
#include "tests/bench/contender.h"
#include "tests/bench/sample.h"
#include "tests/bench/streams.h"

#define WINDOW (64u << 10)
#define PAGE 4096u
#define KIB 1024u
#define CLUSTER_BITS 14                 /* of both images */
#define WARM 32                         /* accesses of a round before those that count */
#define CONTENDERS_MAX 24

struct bench {
        const char *pageserver, *raw, *none, *zstd;
        const char *plain;              /* RAW, mapped */
        size_t bytes;
        unsigned per_round;
        unsigned rounds;
        const char *only;               /* names between commas; NULL = all */
        char folder[32];                /* of the daemon's socket */
        char socket[64];
        pid_t daemon;
        struct lane first;              /* its client that has filled the cache */
        struct contender *who[CONTENDERS_MAX];
        unsigned contenders;
        struct sample took[CONTENDERS_MAX][PLACEMENTS];
        struct sample unpack;
};

static void print(const char *name, const char *where, struct sample *s)
{
        if (s->n > 0)
                printf("%s %s %llu %llu %zu\n", name, where,
                       (unsigned long long)sample_part(s, 50),
                       (unsigned long long)sample_part(s, 99), s->n);
}

/* ---- one burst of accesses -------------------------------------------------- */

/* In the shared lane the cache is asked, in the others the page table. */
static bool missing(const char *at)
{
        unsigned char in_core = 0;

        return mincore((void *)at, PAGE, &in_core) == 0 && !(in_core & 1);
}

static void touch(const struct bench *b, const struct contender *c, bool only_missing,
                  const uint32_t *order, struct sample *took)
{
        size_t windows = b->bytes / WINDOW;
        unsigned done = 0;

        for (size_t i = 0; i < windows && done < b->per_round + WARM; i++) {
                size_t page = order[i] % (WINDOW / PAGE);
                const volatile char *at = c->ram + (size_t)order[i] * WINDOW + page * PAGE;

                if (only_missing && !missing((const char *)at))
                        continue;

                uint64_t start = clock_now_ns();

                (void)*at;

                uint64_t ns = clock_now_ns() - start;

                if (++done > WARM)
                        sample_add(took, ns);
        }
}

static bool prefetches(const struct contender *c)
{
        return c->ops == &contender_lane && ((const struct lane *)c)->prefetch != PS_PREFETCH_OFF;
}

/* The kernel's own ways have no server to be placed. */
static bool has_server(const struct contender *c)
{
        if (c->ops == &contender_file)
                return false;
        return c->ops != &contender_lane || !((const struct lane *)c)->socket;
}

static int turn(struct bench *b, unsigned i, enum placement p, const uint32_t *order,
                struct err *e)
{
        struct contender *c = b->who[i];
        int rc = contender_open(c, p, e);

        if (rc < 0)
                return rc;
        touch(b, c, prefetches(c), order, &b->took[i][p]);
        contender_close(c);
        return 0;
}

static int one_round(struct bench *b, unsigned round, struct err *e)
{
        AUTO_FREE uint32_t *order = sample_shuffle(b->bytes / WINDOW, round + 1);

        for (enum placement p = 0; p < PLACEMENTS; p++) {
                if (p == PLACE_APART && !contender_can_part())
                        continue;
                for (unsigned i = 0; i < b->contenders; i++) {
                        if (p != PLACE_FREE && !has_server(b->who[i]))
                                continue;

                        int rc = turn(b, i, p, order, e);

                        if (rc < 0)
                                return rc;
                }
        }
        return 0;
}

/* ---- bare decompression ----------------------------------------------------- */

static void unpack(struct bench *b)
{
        size_t bytes = MIN(b->bytes, 64u << 20);
        AUTO_FREE uint8_t *out = malloc((size_t)1 << CLUSTER_BITS);
        ZSTD_DCtx *zstd = ZSTD_createDCtx();
        struct streams s;

        ASSERT(out && zstd);
        streams_make(&s, (const uint8_t *)b->plain, bytes, CLUSTER_BITS);

        AUTO_FREE uint32_t *order = sample_shuffle(s.n, 1);

        for (size_t i = 0; i < s.n; i++) {
                uint64_t start = clock_now_ns();

                streams_unpack(&s, order[i], zstd, out);
                sample_add(&b->unpack, clock_now_ns() - start);
        }
        ZSTD_freeDCtx(zstd);
        streams_free(&s);
}

/* ---- who takes part --------------------------------------------------------- */

static bool listed(const char *list, const char *name)
{
        size_t n = strlen(name);

        for (const char *at = list; (at = strstr(at, name)); at += n) {
                if ((at == list || at[-1] == ',') && (at[n] == ',' || at[n] == '\0'))
                        return true;
        }
        return false;
}

static void join(struct bench *b, struct contender *c, const char *name,
                 const struct contender_ops *ops)
{
        c->name = name;
        c->ops = ops;
        c->bytes = b->bytes;
        if (b->only && !listed(b->only, name))
                return;
        ASSERT(b->contenders < CONTENDERS_MAX);
        b->who[b->contenders++] = c;
}

static void join_bare(struct bench *b)
{
        static struct bare floor[3] = {
                { .step = 4 * KIB }, { .step = 16 * KIB }, { .step = 64 * KIB },
        };
        static struct bare example = { .step = 4 * KIB, .poll = true };

        example.from = b->plain;
        join(b, &floor[0].c, "floor-4K", &contender_bare);
        join(b, &floor[1].c, "floor-16K", &contender_bare);
        join(b, &floor[2].c, "floor-64K", &contender_bare);
        join(b, &example.c, "example", &contender_bare);
}

static void join_files(struct bench *b)
{
        static struct file hot, cold = { .cold = true };

        hot.path = cold.path = b->raw;
        join(b, &hot.c, "file-hot", &contender_file);
        join(b, &cold.c, "file-cold", &contender_file);
}

static void join_lanes(struct bench *b)
{
        static const struct {
                const char *name;
                bool zstd, copy;
                uint64_t prefetch;
        } lanes[] = {
                { "shared-none", false, false, PS_PREFETCH_OFF },
                { "shared-zstd", true, false, PS_PREFETCH_OFF },
                { "copy-none", false, true, PS_PREFETCH_OFF },
                { "copy-zstd", true, true, PS_PREFETCH_OFF },
                { "shared-none-prefetch", false, false, PS_PREFETCH_UNLIMITED },
                { "shared-zstd-prefetch", true, false, PS_PREFETCH_UNLIMITED },
                { "copy-none-prefetch", false, true, PS_PREFETCH_UNLIMITED },
                { "copy-zstd-prefetch", true, true, PS_PREFETCH_UNLIMITED },
        };
        static struct lane lane[ARRAY_SIZE(lanes)];

        for (size_t i = 0; i < ARRAY_SIZE(lanes); i++) {
                lane[i].program = b->pageserver;
                lane[i].image = lanes[i].zstd ? b->zstd : b->none;
                lane[i].copy = lanes[i].copy;
                lane[i].prefetch = lanes[i].prefetch;
                join(b, &lane[i].c, lanes[i].name, &contender_lane);
        }
}

/* A daemon whose cache has all of the image, and its second client. */
static int join_second(struct bench *b, struct err *e)
{
        static struct lane second;

        strcpy(b->folder, "ps-bench-XXXXXX");
        if (!mkdtemp(b->folder))
                return err_set(e, errno, "make a folder");
        snprintf(b->socket, sizeof(b->socket), "%s/socket", b->folder);

        int rc = lane_daemon(b->pageserver, b->socket, &b->daemon, e);

        if (rc < 0)
                return rc;
        b->first = (struct lane){
                .c = { .ops = &contender_lane, .name = "first", .bytes = b->bytes },
                .image = b->zstd, .socket = b->socket, .prefetch = PS_PREFETCH_UNLIMITED,
        };
        second = b->first;
        second.prefetch = PS_PREFETCH_OFF;
        join(b, &second.c, "cached", &contender_lane);
        rc = contender_open(&b->first.c, PLACE_FREE, e);
        return rc < 0 ? rc : lane_wait_resident(&b->first, e);
}

static void end_daemon(struct bench *b)
{
        if (b->first.c.ram)
                contender_close(&b->first.c);
        if (b->daemon > 0) {
                kill(b->daemon, SIGKILL);
                waitpid(b->daemon, NULL, 0);
                unlink(b->socket);
        }
        if (b->folder[0])
                rmdir(b->folder);
}

/* ---- program ---------------------------------------------------------------- */

static int map_raw(struct bench *b, struct err *e)
{
        AUTO_FD fd = open(b->raw, O_RDONLY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open '%s'", b->raw);
        b->bytes = ALIGN_DOWN((size_t)st.st_size, 2u << 20);
        if (b->bytes / WINDOW < b->per_round + WARM)
                return err_msg(e, EINVAL, "'%s' is too small for so many accesses", b->raw);
        b->plain = mmap(NULL, b->bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (b->plain == MAP_FAILED)
                return err_set(e, errno, "map '%s'", b->raw);
        return 0;
}

static int take_options(struct bench *b, int argc, char **argv)
{
        int opt;

        while ((opt = getopt(argc, argv, "n:r:w:")) != -1) {
                if (opt == 'n')
                        b->per_round = (unsigned)atoi(optarg);
                else if (opt == 'r')
                        b->rounds = (unsigned)atoi(optarg);
                else if (opt == 'w')
                        b->only = optarg;
                else
                        return -1;
        }
        if (argc - optind != 4)
                return -1;
        b->pageserver = argv[optind];
        b->raw = argv[optind + 1];
        b->none = argv[optind + 2];
        b->zstd = argv[optind + 3];
        return 0;
}

static int run(struct bench *b, struct err *e)
{
        int rc = map_raw(b, e);

        if (rc < 0)
                return rc;
        join_bare(b);
        join_files(b);
        join_lanes(b);
        rc = join_second(b, e);
        unpack(b);
        for (unsigned round = 0; rc == 0 && round < b->rounds; round++)
                rc = one_round(b, round, e);
        for (unsigned i = 0; i < b->contenders; i++) {
                for (enum placement p = 0; p < PLACEMENTS; p++)
                        print(b->who[i]->name, has_server(b->who[i]) ? placement_name[p] : "-",
                              &b->took[i][p]);
        }
        print("unpack", "-", &b->unpack);
        return rc;
}

int main(int argc, char **argv)
{
        static struct bench b = { .per_round = 256, .rounds = 9 };
        struct err e = { 0 };

        if (take_options(&b, argc, argv) < 0) {
                fprintf(stderr, "usage: ps-fault [-n COUNTED_PER_ROUND] [-r ROUNDS] "
                        "[-w NAME,NAME...] PAGESERVER RAW NONE ZSTD\n");
                return 2;
        }

        int rc = run(&b, &e);

        end_daemon(&b);
        if (rc < 0)
                err_print("ps-fault", &e);
        return rc < 0;
}
