/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the file that is kept is the disk at the freeze, to the byte, while four threads
 *       write, discard and read all the time; the disk is what they wrote.
 * Method: each thread writes to disk and model alike, into pages of its own among those of
 *         the others (so that all meet in each block) and large ranges of a quarter of its
 *         own. At the freeze they stand still for a moment, as a drained device does, and
 *         the model is copied. In place and in an overlay, by kernel and by hand, and with
 *         the gate of a reflink, which is one where the file system can (DISK_DIR).
 *         KEEP_ROUNDS says how often. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/disk-kit.h"
#include "vmm/disk/keep-priv.h"

#define THREADS 4u
#define PAGE 4096u
#define SECTOR DISK_SECTOR_BYTES
#define BYTES (96u * KEEP_BLOCK_BYTES)
#define SHARED (BYTES / 2)              /* the rest is cut into quarters */
#define LARGE_MAX (BYTES / 2 / THREADS)
#define ROUNDS 12u
#define SETTLE_US 3000

struct world {
        struct disk_kit kit;
        struct disk *disk;
        pthread_rwlock_t running;       /* held for writing: the device is drained */
        _Atomic bool over;
};

struct guest {
        struct world *w;
        unsigned me;
        uint64_t random;
        uint8_t *buf;
        uint64_t writes;
        int rc;
};

struct range {
        uint64_t offset;
        uint64_t bytes;
};

static struct range own_page(struct guest *g)
{
        uint64_t page = disk_kit_random(&g->random) % (SHARED / PAGE / THREADS) * THREADS + g->me;
        uint64_t first = disk_kit_random(&g->random) % (PAGE / SECTOR);
        uint64_t n = 1 + disk_kit_random(&g->random) % (PAGE / SECTOR - first);

        return (struct range){ page * PAGE + first * SECTOR, n * SECTOR };
}

static struct range own_quarter(struct guest *g)
{
        uint64_t first = disk_kit_random(&g->random) % (LARGE_MAX / SECTOR);
        uint64_t n = 1 + disk_kit_random(&g->random) % (LARGE_MAX / SECTOR - first);

        return (struct range){ SHARED + g->me * LARGE_MAX + first * SECTOR, n * SECTOR };
}

static int write_range(struct guest *g, struct range r)
{
        const struct iovec iov = { g->w->kit.model + r.offset, r.bytes };

        disk_kit_fill(g->w->kit.model + r.offset, r.bytes, &g->random);
        return disk_write(g->w->disk, &iov, 1, r.offset);
}

static int zero_range(struct guest *g, struct range r)
{
        memset(g->w->kit.model + r.offset, 0, r.bytes);
        return disk_write_zeroes(g->w->disk, r.offset, r.bytes, true);
}

static int read_range(struct guest *g, struct range r)
{
        const struct iovec iov = { g->buf, r.bytes };
        int rc = disk_read(g->w->disk, &iov, 1, r.offset);

        return rc == 0 && memcmp(g->buf, g->w->kit.model + r.offset, r.bytes) ? -EILSEQ : rc;
}

static void *guest_thread(void *ctx)
{
        struct guest *g = ctx;

        while (!g->w->over && g->rc == 0) {
                uint64_t kind = disk_kit_random(&g->random) % 64;
                struct range r = kind < 60 ? own_page(g) : own_quarter(g);

                pthread_rwlock_rdlock(&g->w->running);
                g->rc = kind % 8 == 7 ? zero_range(g, r) : kind % 8 == 6 ? read_range(g, r)
                        : write_range(g, r);
                g->writes++;
                pthread_rwlock_unlock(&g->w->running);
        }
        return NULL;
}

struct way {
        const char *name;
        bool overlay;
        bool by_hand;
        bool gate;                      /* as if it were a reflink, which fails if it is none */
};

static const struct way ways[] = {
        { "in place, in the kernel", false, false, false },
        { "in place, by hand", false, true, false },
        { "overlay", true, false, false },
        { "reflink", false, false, true },
};

static int fail(const struct way *way, const char *what, int rc)
{
        fprintf(stderr, "disk-keep: %s: %s (%d)\n", way->name, what, rc);
        return 1;
}

static struct disk_keep *keep_new(struct world *w, const struct way *way, const char *target)
{
        const struct disk_keep_options o = { .target_path = target, .mode =
                                             way->gate ? DISKS_AUTO : DISKS_COPY };
        struct disk_keep *k = NULL;
        struct err e;

        if (disk_keep_new(w->disk, &o, &k, &e) < 0) {
                fprintf(stderr, "disk-keep: %s\n", e.text);
                return NULL;
        }
        if (way->by_hand)
                k->in_kernel = false;
        if (way->gate && !k->reflinked) {
                keep_copy_fini(k);
                k->reflinked = true;
        }
        return k;
}

/* One moment, of a guest that runs. */
static int keep_one(struct world *w, const struct way *way)
{
        AUTO_FREE uint8_t *moment = malloc(BYTES);
        AUTO_FREE char *target = disk_kit_path(&w->kit, "kept");
        struct disk_keep *k = keep_new(w, way, target);
        struct disk_identity id;
        struct err e = { 0 };
        int rc;

        if (!k)
                return 1;
        usleep(SETTLE_US);
        pthread_rwlock_wrlock(&w->running);
        memcpy(moment, w->kit.model, BYTES);
        disk_keep_freeze(k);
        pthread_rwlock_unlock(&w->running);
        usleep(SETTLE_US / 4);
        rc = disk_keep_run(k, &e);
        if (rc == 0)
                rc = disk_keep_publish(k, &id, &e);
        if (rc < 0)
                return fail(way, e.text, rc);
        printf("%s: %llu KiB set aside, %llu copied, %llu waited\n", way->name,
               (unsigned long long)k->aside_bytes >> 10,
               (unsigned long long)k->copied_bytes >> 10, (unsigned long long)k->waited);
        disk_keep_free(k);
        if (!disk_kit_holds(target, moment, BYTES))
                return fail(way, "what was kept is not the moment", 0);
        unlink(target);
        return 0;
}

static int check_disk(struct world *w, const struct way *way)
{
        AUTO_FREE uint8_t *buf = malloc(BYTES);
        const struct iovec iov = { buf, BYTES };
        int rc = disk_read(w->disk, &iov, 1, 0);

        if (rc < 0 || memcmp(buf, w->kit.model, BYTES))
                return fail(way, "the disk is not what was written", rc);
        return 0;
}

static int try(struct world *w, const struct way *way, unsigned rounds)
{
        pthread_t thread[THREADS];
        struct guest guest[THREADS];
        int bad = 0;

        for (unsigned i = 0; i < THREADS; i++) {
                guest[i] = (struct guest){ .w = w, .me = i, .random = 1234567 + i,
                                           .buf = malloc(LARGE_MAX) };
                ASSERT(guest[i].buf);

                int rc = pthread_create(&thread[i], NULL, guest_thread, &guest[i]);

                ASSERT(rc == 0);
        }
        for (unsigned i = 0; i < rounds && !bad; i++)
                bad = keep_one(w, way);
        w->over = true;
        for (unsigned i = 0; i < THREADS; i++) {
                pthread_join(thread[i], NULL);
                free(guest[i].buf);
                if (guest[i].rc < 0 || guest[i].writes == 0)
                        bad = fail(way, "a request failed", guest[i].rc);
        }
        return bad ? bad : check_disk(w, way);
}

/* Threads that always hold it for reading would keep the one that freezes out. */
static void init_running(pthread_rwlock_t *running)
{
        pthread_rwlockattr_t a;

        pthread_rwlockattr_init(&a);
        pthread_rwlockattr_setkind_np(&a, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
        pthread_rwlock_init(running, &a);
        pthread_rwlockattr_destroy(&a);
}

static int try_way(const struct way *way, unsigned rounds)
{
        struct world w = { .over = false };
        struct err e;
        int bad;

        disk_kit_init(&w.kit, BYTES);
        init_running(&w.running);

        const struct disk_options o = { .path = w.kit.base, .overlay = way->overlay,
                                        .overlay_dir = way->overlay ? "/dev/shm" : NULL };

        if (disk_open(&o, &w.disk, &e) < 0)
                bad = fail(way, e.text, e.code);
        else
                bad = try(&w, way, rounds);
        disk_close(w.disk);
        pthread_rwlock_destroy(&w.running);
        disk_kit_fini(&w.kit);
        return bad;
}

int main(void)
{
        const char *said = getenv("KEEP_ROUNDS");
        unsigned rounds = said ? (unsigned)atoi(said) : ROUNDS;
        int bad = 0;

        alarm(300);                     /* a writer that waits for ever is a finding, too */
        for (unsigned i = 0; i < ARRAY_SIZE(ways) && !bad; i++)
                bad = try_way(&ways[i], rounds);
        return bad;
}
