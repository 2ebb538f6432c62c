/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whenever the power fails while a tag is added, replaced or deleted, all old
 *       tags are there or the complete new state is, nothing leaks, and the next
 *       tag can be added; what was reported as done stays. Whoever still reads the
 *       old state and is known to (imglock.h) finds all of it.
 * Method: a random history of one pool, recorded as pool-record.h says, cut at
 *       random places. SEED may be given, to do a history again. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/crash/pool-record.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

/* sanitizers look for other faults, and are five times slower */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ROUNDS 15
#else
#define ROUNDS 45
#endif
#define CUTS 8                          /* of each round */
#define PAGES 48
#define RAM_BYTES (PAGES * 4096u)
#define TAGS_MIN 3
#define TAGS_MAX 6

extern char **environ;

struct tag {
        char name[16];
        uint8_t *ram;
};

/* what the file shall hold; in the order of the snapshot table */
struct state {
        unsigned n;
        struct tag tag[TAGS_MAX];
};

/* somebody who reads a state that may be several changes old */
struct reader {
        int fd;                         /* with his lock; -1 = nobody */
        uint8_t sector[512];
        struct state state;
};

struct lab {
        char folder[KIT_PATH_MAX];
        char pool[KIT_PATH_MAX];        /* its history is recorded */
        char lost[KIT_PATH_MAX];        /* what a loss of power leaves of it */
        struct state now, before;
        struct reader reader;
        uint8_t *ram[ROUNDS + TAGS_MIN];        /* whatever a state may refer to */
        unsigned rams;
        uint64_t random;
        unsigned names;                 /* given so far */
        unsigned cases;
        char what[64];                  /* what is done in this round */
};

static unsigned below(struct lab *l, unsigned n)
{
        return (unsigned)((store_random(&l->random) >> 32) % n);
}

static uint8_t *next_ram(struct lab *l)
{
        uint8_t *ram = calloc(1, RAM_BYTES);

        ASSERT(ram && l->rams < ROUNDS + TAGS_MIN);
        l->ram[l->rams++] = ram;
        if (l->now.n)
                memcpy(ram, l->now.tag[below(l, l->now.n)].ram, RAM_BYTES);
        else
                store_ram_fill(ram, RAM_BYTES, l->random);
        for (unsigned i = below(l, 12); i > 0; i--) {
                uint8_t *page = ram + (size_t)below(l, PAGES) * 4096;

                memset(page, 0, 4096);
                store_ram_page(page, 4096, below(l, 3), &l->random);
        }
        return ram;
}

/* drafts: RAM is taken so often before (store-draft.h) */
static int save(const char *path, const struct tag *tag, bool zstd, bool force,
                unsigned drafts)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .compress = zstd ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                .zstd_level = 1, .threads = 2, .disk_bytes = RAM_BYTES, .append = true,
                .force = force,
        };
        struct kit_ram ram = { .bytes = tag->ram, .ranges = 1, .range = { { 0, RAM_BYTES } },
                               .drafts = drafts, .seed = drafts };
        struct err e = { 0 };

        snprintf(o.tag, sizeof(o.tag), "%s", tag->name);

        int rc = kit_save(path, &o, &ram, &e);

        if (rc < 0)
                err_print("pool-power", &e);
        return rc;
}

static void drop(struct state *s, unsigned i)
{
        memmove(&s->tag[i], &s->tag[i + 1], (s->n - i - 1) * sizeof(s->tag[0]));
        s->n--;
}

static int add(struct lab *l, bool replace)
{
        unsigned old = l->now.n ? below(l, l->now.n) : 0;
        struct tag t = { .ram = next_ram(l) };
        bool zstd = below(l, 2);

        if (replace)
                memcpy(t.name, l->now.tag[old].name, sizeof(t.name));
        else
                snprintf(t.name, sizeof(t.name), "t%u", l->names++);
        snprintf(l->what, sizeof(l->what), "%s %s, %s", replace ? "replace" : "add", t.name,
                 zstd ? "zstd" : "raw");
        if (replace)
                drop(&l->now, old);
        l->now.tag[l->now.n++] = t;
        return save(l->pool, &t, zstd, replace, l->names % 3);
}

static int delete(struct lab *l)
{
        unsigned old = below(l, l->now.n);
        struct err e = { 0 };

        snprintf(l->what, sizeof(l->what), "delete %s", l->now.tag[old].name);

        int rc = qs_snapshot_delete(l->pool, l->now.tag[old].name, &e);

        if (rc < 0)
                err_print("pool-power", &e);
        drop(&l->now, old);
        return rc;
}

static int change(struct lab *l)
{
        unsigned kind = below(l, 3);

        if (l->now.n <= TAGS_MIN)
                return add(l, kind == 0);
        return kind == 2 || l->now.n == TAGS_MAX ? delete(l) : add(l, kind == 0);
}

/* ---- the judge ------------------------------------------------------------ */

static bool holds(int fd, const struct state *s)
{
        struct qs_snapshot_info *info = NULL;
        size_t n = 0;
        bool ok = qs_snapshot_list(fd, "lost", &info, &n, NULL) == 0 && n == s->n;

        for (unsigned i = 0; ok && i < s->n; i++) {
                struct qs_image *m = NULL;

                ok = strcmp(info[i].tag, s->tag[i].name) == 0 &&
                     qs_image_open(fd, "lost", s->tag[i].name, &m, NULL) == 0 &&
                     kit_compare(m, s->tag[i].ram) == 0;
                qs_image_close(m);
        }
        free(info);
        return ok;
}

static bool qemu_check(const char *path)
{
        const char *argv[] = { "qemu-img", "check", "-q", "-f", "qcow2", path, NULL };
        int status = 0;
        pid_t pid;

        if (posix_spawnp(&pid, argv[0], NULL, NULL, (char **)(uintptr_t)argv, environ) != 0)
                return true;

        pid_t done = waitpid(pid, &status, 0);

        ASSERT(done == pid);
        return WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 127);
}

static void put_file(const char *path, const uint8_t *bytes, size_t n)
{
        AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int rc = fd < 0 ? -errno : io_pwrite_full(fd, bytes, n, 0);

        ASSERT(rc == 0);
}

static int complain(const struct lab *l, const char *when, const char *what)
{
        printf("FAIL: %s, %s: %s\n", l->what, when, what);
        return 1;
}

/* of a file that may be in either state; one may be NULL */
static int judge(struct lab *l, const char *when, const struct state *a, const struct state *b)
{
        AUTO_FD fd = kit_open(l->lost);
        const struct state *found = a && holds(fd, a) ? a : b && holds(fd, b) ? b : NULL;

        if (!found)
                return complain(l, when, a && b ? "neither old nor new"
                                                : a ? "not the old state" : "not the new state");
        if (kit_check(fd, 1) != 0)
                return complain(l, when, "check finds something");
        if (l->cases % 3 == 0 && !qemu_check(l->lost))
                return complain(l, when, "qemu-img check finds something");
        if (l->cases++ % 5 != 0 || found->n == TAGS_MAX)
                return 0;

        struct state more = *found;

        more.tag[more.n++] = (struct tag){ "next", l->now.tag[0].ram };
        if (save(l->lost, &more.tag[more.n - 1], true, false, 0) < 0)
                return complain(l, when, "the next tag cannot be added");
        return holds(fd, &more) && kit_check(fd, 1) == 0
               ? 0 : complain(l, when, "the next tag breaks it");
}

/* ---- rounds --------------------------------------------------------------- */

static size_t header_step(void)
{
        size_t i = record_steps() - 1;

        for (; record_step(i)->kind != STEP_WRITE; i--)
                ;
        ASSERT(record_step(i)->at == 0 && record_step(i)->bytes == 512);
        return i;
}

static int cut(struct lab *l, size_t steps)
{
        size_t header = header_step(), n;
        AUTO_FREE uint8_t *bytes = record_lost(steps, &l->random, &n);
        char when[64];

        put_file(l->lost, bytes, n);
        snprintf(when, sizeof(when), "power fails after %zu of %zu steps", steps, record_steps());
        return judge(l, when, steps <= header + 1 ? &l->before : NULL,
                     steps > header ? &l->now : NULL);
}

/* as QEMU does for as long as it has the file open */
static void start_reader(void *ctx)
{
        struct lab *l = ctx;
        struct flock one = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 1 };
        struct reader *r = &l->reader;

        r->fd = kit_open(l->pool);
        r->state = l->before;

        int rc = fcntl(r->fd, F_OFD_SETLK, &one);

        ASSERT(rc == 0);
        rc = io_pread_full(r->fd, r->sector, sizeof(r->sector), 0);
        ASSERT(rc == 0);
}

/* The header that he read still leads to all of his state. */
static int judge_reader(struct lab *l)
{
        size_t n;
        AUTO_FREE uint8_t *bytes = kit_load(l->pool, &n);

        memcpy(bytes, l->reader.sector, sizeof(l->reader.sector));
        put_file(l->lost, bytes, n);
        return judge(l, "who reads an old state", &l->reader.state, NULL);
}

static int one_round(struct lab *l)
{
        l->before = l->now;
        record_settle();
        /* a reader comes before the change, or at the last moment */
        if (l->reader.fd < 0 && below(l, 3) == 0)
                start_reader(l);
        else if (l->reader.fd < 0 && below(l, 3) == 0)
                record_before_switch(start_reader, l);

        int bad = change(l) < 0;

        for (unsigned i = 0; !bad && i < CUTS; i++)
                bad = cut(l, below(l, (unsigned)record_steps() + 1));
        if (!bad && l->reader.fd >= 0)
                bad = judge_reader(l);
        if (below(l, 4) == 0)
                fd_close(&l->reader.fd);
        return bad;
}

int main(void)
{
        const char *given = getenv("SEED");
        uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
        struct lab l = { .random = seed * 2 + 1, .reader = { .fd = -1 } };
        int bad = 0;

        printf("SEED=%llu\n", (unsigned long long)seed);
        kit_folder(l.folder);
        kit_path(l.folder, "pool", l.pool);
        kit_path(l.folder, "lost", l.lost);
        for (unsigned i = 0; !bad && i < TAGS_MIN; i++)
                bad = add(&l, false) < 0;
        record_start(l.pool);
        for (unsigned i = 0; !bad && i < ROUNDS; i++)
                bad = one_round(&l);
        printf("%u cases\n", l.cases);
        record_end();
        fd_close(&l.reader.fd);
        for (unsigned i = 0; i < l.rams; i++)
                free(l.ram[i]);
        unlink(l.pool);
        unlink(l.lost);
        return bad || !kit_gone(l.folder);
}
