/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what is kept is the disk at the freeze, whatever is written meanwhile and whoever
 *       copies; a copy that fails, is cancelled or given up harms no write and leaves no file.
 * Method: one thread that writes between the steps, on disks in place and in an overlay, by
 *         each way of copying; reflinks where the file system can (DISK_DIR names one), and
 *         their gate everywhere. tests/stress/disk-keep.c has the threads. */
#include "vmm/disk/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/disk/keep-priv.h"

#define BLOCK KEEP_BLOCK_BYTES
#define SECTOR DISK_SECTOR_BYTES
#define BYTES (40u * BLOCK + 3 * SECTOR)
#define MOMENT_US 20000

struct bench {
        struct disk_kit kit;            /* its model: what the guest reads */
        struct disk *disk;
        uint8_t *moment;                /* the model at the freeze */
        char *target;
        uint64_t random;
        uint64_t progress;
};

static void start(struct bench *b, bool overlay)
{
        *b = (struct bench){ .random = 99 };
        disk_kit_init(&b->kit, BYTES);
        b->moment = malloc(BYTES);
        b->target = disk_kit_path(&b->kit, "kept.disk0");

        const struct disk_options o = { .path = b->kit.base, .overlay = overlay,
                                        .overlay_dir = overlay ? "/dev/shm" : NULL };

        CU_ASSERT_EQUAL_FATAL(disk_open(&o, &b->disk, NULL), 0);
}

static void end(struct bench *b)
{
        disk_close(b->disk);
        free(b->target);
        free(b->moment);
        disk_kit_fini(&b->kit);
}

static int write_some(struct bench *b, unsigned times)
{
        int rc = 0;

        for (unsigned i = 0; i < times && rc == 0; i++) {
                uint64_t at = disk_kit_random(&b->random) % (BYTES / SECTOR);
                uint64_t n = 1 + disk_kit_random(&b->random) % 300;
                uint64_t offset = at * SECTOR, bytes = MIN(n * SECTOR, BYTES - offset);
                const struct iovec iov = { b->kit.model + offset, bytes };

                if (i % 8 == 7) {
                        memset(b->kit.model + offset, 0, bytes);
                        rc = disk_write_zeroes(b->disk, offset, bytes, true);
                        continue;
                }
                disk_kit_fill(b->kit.model + offset, bytes, &b->random);
                rc = disk_write(b->disk, &iov, 1, offset);
        }
        return rc;
}

static bool reads_as(struct disk *d, const uint8_t *model)
{
        AUTO_FREE uint8_t *buf = malloc(BYTES);
        const struct iovec iov = { buf, BYTES };

        return disk_read(d, &iov, 1, 0) == 0 && !memcmp(buf, model, BYTES);
}

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
        struct bench *b = ctx;

        if (done < b->progress || done > total || total != BYTES)
                b->progress = UINT64_MAX;
        else
                b->progress = done;
}

static struct disk_keep *keep_new(struct bench *b, enum disks_mode mode)
{
        const struct disk_keep_options o = { .target_path = b->target, .mode = mode,
                                             .progress = on_progress, .ctx = b };
        struct disk_keep *k = NULL;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(disk_keep_new(b->disk, &o, &k, &e), 0);
        return k;
}

static void freeze(struct bench *b, struct disk_keep *k)
{
        memcpy(b->moment, b->kit.model, BYTES);
        disk_keep_freeze(k);
}

/* The name is there, and its file is the moment. */
static void check_kept(const char *row, struct bench *b, struct disk_keep *k)
{
        struct disk_identity id = { 0 };
        struct stat st = { 0 };

        EXPECT_EQUAL(row, disk_kit_files(&b->kit), 1);
        EXPECT_EQUAL(row, disk_keep_publish(k, &id, NULL), 0);
        EXPECT_TRUE(row, disk_kit_holds(b->target, b->moment, BYTES));
        EXPECT_TRUE(row, reads_as(b->disk, b->kit.model));
        EXPECT_TEXT(row, id.path, "kept.disk0");
        EXPECT_EQUAL(row, id.bytes, BYTES);
        EXPECT_EQUAL(row, stat(b->target, &st), 0);
        EXPECT_EQUAL(row, st.st_mode & 07777, 0400);
        AUTO_FD fd = open(b->target, O_RDONLY | O_CLOEXEC);
        bool itself = false;

        EXPECT_EQUAL(row, disk_identity_check(&id, fd, b->target, &itself, NULL), 0);
        EXPECT_TRUE(row, itself);
}

static void the_moment_is_kept(void)
{
        static const struct {
                const char *name;
                bool overlay;
                bool by_hand;
                enum disks_mode mode;
        } rows[] = {
                { "in place, in the kernel", false, false, DISKS_COPY },
                { "in place, by hand", false, true, DISKS_COPY },
                { "in an overlay", true, false, DISKS_COPY },
                { "as it can be", false, false, DISKS_AUTO },
                { "as an overlay can be", true, false, DISKS_AUTO },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bench b;

                start(&b, rows[i].overlay);
                EXPECT_EQUAL(rows[i].name, write_some(&b, 30), 0);

                struct disk_keep *k = keep_new(&b, rows[i].mode);

                if (rows[i].by_hand)
                        k->in_kernel = false;
                EXPECT_EQUAL(rows[i].name, write_some(&b, 30), 0);
                freeze(&b, k);
                if (!k->reflinked)
                        EXPECT_EQUAL(rows[i].name, write_some(&b, 10), 0);
                EXPECT_EQUAL(rows[i].name, disk_keep_run(k, NULL), 0);
                EXPECT_EQUAL(rows[i].name, write_some(&b, 10), 0);
                EXPECT_TRUE(rows[i].name, k->reflinked || b.progress == BYTES);
                EXPECT_TRUE(rows[i].name, k->reflinked || k->aside_bytes > 0);
                check_kept(rows[i].name, &b, k);
                disk_keep_free(k);
                EXPECT_EQUAL(rows[i].name, disk_kit_files(&b.kit), 2);
                end(&b);
        }
}

/* For a clone: a file that has no name, before or after. */
static void into_a_file_that_was_lent(void)
{
        static const bool overlays[] = { false, true };

        for (unsigned i = 0; i < ARRAY_SIZE(overlays); i++) {
                struct bench b;

                start(&b, overlays[i]);

                AUTO_FD lent = open(b.kit.dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
                AUTO_FREE uint8_t *got = malloc(BYTES + 1);
                const struct disk_keep_options o = {
                        .target_fd = &lent, .mode = DISKS_AUTO, .progress = on_progress, .ctx = &b,
                };
                struct disk_keep *k = NULL;

                CU_ASSERT_EQUAL(write_some(&b, 30), 0);
                CU_ASSERT_EQUAL_FATAL(disk_keep_new(b.disk, &o, &k, NULL), 0);
                freeze(&b, k);
                if (!k->reflinked)
                        CU_ASSERT_EQUAL(write_some(&b, 10), 0);
                CU_ASSERT_EQUAL(disk_keep_run(k, NULL), 0);
                disk_keep_free(k);
                CU_ASSERT_EQUAL(write_some(&b, 30), 0);
                CU_ASSERT_EQUAL(pread(lent, got, BYTES + 1, 0), BYTES);
                CU_ASSERT(memcmp(got, b.moment, BYTES) == 0);
                CU_ASSERT(reads_as(b.disk, b.kit.model));
                CU_ASSERT_EQUAL(disk_kit_files(&b.kit), 1);
                end(&b);
        }
}

static void holes_stay_holes(void)
{
        struct bench b;
        struct stat st;

        start(&b, false);

        struct disk_keep *k = keep_new(&b, DISKS_COPY);
        AUTO_JSON *said = NULL;
        struct disk_identity id;
        uint64_t copied = 0;

        k->in_kernel = false;
        freeze(&b, k);
        /* of the second run of blocks, a hole */
        CU_ASSERT_EQUAL(disk_write_zeroes(b.disk, 3 * BLOCK, 3 * BLOCK, true), 0);
        CU_ASSERT_EQUAL(k->aside_bytes, 0);
        CU_ASSERT_EQUAL(disk_keep_run(k, NULL), 0);
        said = disk_keep_describe(k);
        CU_ASSERT_EQUAL(json_take_u64(said, "copied_bytes", BYTES, &copied, NULL), 0);
        CU_ASSERT(copied > 0 && copied < BYTES * 3 / 4);
        CU_ASSERT_EQUAL(disk_keep_publish(k, &id, NULL), 0);
        CU_ASSERT_EQUAL(stat(b.target, &st), 0);
        CU_ASSERT((uint64_t)st.st_blocks * 512 < BYTES * 3 / 4);
        disk_keep_free(k);
        end(&b);
}

static bool always(void *ctx)
{
        (void)ctx;
        return true;
}

static void a_cancelled_one_leaves_nothing(void)
{
        struct disk_keep_options o = { .mode = DISKS_COPY, .cancelled = always };
        struct disk_keep *k;
        struct bench b;
        struct err e;

        start(&b, false);
        o.target_path = b.target;
        CU_ASSERT_EQUAL_FATAL(disk_keep_new(b.disk, &o, &k, &e), 0);
        freeze(&b, k);
        CU_ASSERT_EQUAL(disk_keep_run(k, &e), -ECANCELED);
        CU_ASSERT_EQUAL(write_some(&b, 10), 0);
        disk_keep_free(k);
        CU_ASSERT_EQUAL(disk_kit_files(&b.kit), 1);
        CU_ASSERT_TRUE(reads_as(b.disk, b.kit.model));
        end(&b);
}

/* INV-UNHARMED. The disk stands for itself in a full file system: only the target grows. */
static void a_full_disk_does_not_harm_writes(void)
{
        static const struct {
                const char *name;
                bool by_guest;          /* meets it first */
        } rows[] = { { "the copier meets it", false }, { "a write meets it", true } };

        signal(SIGXFSZ, SIG_IGN);
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct rlimit old, low;
                struct bench b;
                struct err e = { 0 };

                start(&b, true);

                struct disk_keep *k = keep_new(&b, DISKS_COPY);
                struct iovec iov = { b.kit.model + 38 * BLOCK, SECTOR };

                freeze(&b, k);
                CU_ASSERT_EQUAL(disk_write(b.disk, &iov, 1, 38 * BLOCK), 0);    /* its file */
                getrlimit(RLIMIT_FSIZE, &old);
                low = (struct rlimit){ 9 * BLOCK, old.rlim_max };
                setrlimit(RLIMIT_FSIZE, &low);
                if (rows[i].by_guest)
                        EXPECT_EQUAL(rows[i].name,
                                     disk_write_zeroes(b.disk, 36 * BLOCK, BLOCK, true), 0);
                else
                        EXPECT_EQUAL(rows[i].name, disk_keep_run(k, &e), -EFBIG);
                setrlimit(RLIMIT_FSIZE, &old);
                if (rows[i].by_guest) {
                        memset(b.kit.model + 36 * BLOCK, 0, BLOCK);
                        EXPECT_EQUAL(rows[i].name, disk_keep_run(k, &e), -EFBIG);
                }
                EXPECT_TRUE(rows[i].name, strstr(e.text, "kept.disk0"));
                EXPECT_EQUAL(rows[i].name, write_some(&b, 10), 0);
                EXPECT_TRUE(rows[i].name, reads_as(b.disk, b.kit.model));
                disk_keep_free(k);
                EXPECT_EQUAL(rows[i].name, disk_kit_files(&b.kit), 1);
                end(&b);
        }
}

static void names_are_not_taken_twice(void)
{
        struct disk_identity id = { .path = "untouched" };
        struct bench b;
        struct err e;

        start(&b, false);

        struct disk_keep *first = keep_new(&b, DISKS_COPY);

        freeze(&b, first);
        CU_ASSERT_EQUAL(disk_keep_run(first, NULL), 0);
        close(open(b.target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        CU_ASSERT_EQUAL(disk_keep_publish(first, &id, &e), -EEXIST);
        CU_ASSERT_STRING_EQUAL(id.path, "untouched");
        CU_ASSERT_EQUAL(unlink(b.target), 0);
        CU_ASSERT_EQUAL(disk_keep_publish(first, &id, &e), 0);
        disk_keep_retract(first);
        disk_keep_free(first);
        CU_ASSERT_EQUAL(disk_kit_files(&b.kit), 1);
        end(&b);
}

/* ---- the gate of a reflink ----------------------------------------------- */

struct writer {
        struct bench *b;
        _Atomic bool done;
        int rc;
};

static void *write_one(void *ctx)
{
        struct writer *w = ctx;

        w->rc = write_some(w->b, 1);
        w->done = true;
        return NULL;
}

/* As if FICLONE were to come; where it cannot be done it has to be copied then. */
static struct disk_keep *pretend_reflink(struct bench *b)
{
        struct disk_keep *k = keep_new(b, DISKS_AUTO);

        if (!k->reflinked)
                keep_copy_fini(k);
        k->reflinked = true;
        return k;
}

static void writes_wait_for_a_reflink(void)
{
        static const struct {
                const char *name;
                bool run;
                enum disks_mode mode;
        } rows[] = {
                { "until it is done, or copied", true, DISKS_AUTO },
                { "until it is given up", false, DISKS_AUTO },
                { "until it fails", true, DISKS_REFLINK },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct bench b;
                pthread_t thread;

                start(&b, false);

                struct disk_keep *k = pretend_reflink(&b);
                struct writer w = { .b = &b };

                k->options.mode = rows[i].mode;
                freeze(&b, k);
                pthread_create(&thread, NULL, write_one, &w);
                usleep(MOMENT_US);
                EXPECT_TRUE(rows[i].name, !w.done);
                if (rows[i].run) {
                        int rc = disk_keep_run(k, NULL);

                        pthread_join(thread, NULL);
                        EXPECT_TRUE(rows[i].name, rc == 0 || rows[i].mode == DISKS_REFLINK);
                        if (rc == 0)
                                check_kept(rows[i].name, &b, k);
                        disk_keep_free(k);
                } else {
                        disk_keep_free(k);
                        pthread_join(thread, NULL);
                }
                EXPECT_EQUAL(rows[i].name, w.rc, 0);
                EXPECT_TRUE(rows[i].name, reads_as(b.disk, b.kit.model));
                end(&b);
        }
}

/* Which are several sentences: by what is in the way. */
static void reflinks_that_cannot_be(void)
{
        struct disk_keep *k = NULL;
        struct bench b;
        struct err e;

        start(&b, true);

        const struct disk_keep_options o = { .target_path = b.target, .mode = DISKS_REFLINK };

        CU_ASSERT_EQUAL(disk_keep_new(b.disk, &o, &k, &e), -EOPNOTSUPP);
        CU_ASSERT_PTR_NULL(k);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "use --disks copy"));
        end(&b);

        start(&b, false);

        const struct disk_keep_options shm = { .target_path = "/dev/shm/kept.disk0",
                                               .mode = DISKS_REFLINK };

        CU_ASSERT(disk_keep_new(b.disk, &shm, &k, &e) < 0);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "use --disks copy"));
        CU_ASSERT_EQUAL(disk_kit_files(&b.kit), 1);
        disk_keep_free(NULL);
        end(&b);
}

static CU_TestInfo cases[] = {
        { "the moment is kept", the_moment_is_kept },
        { "into a file that was lent", into_a_file_that_was_lent },
        { "holes stay holes", holes_stay_holes },
        { "a cancelled one leaves nothing", a_cancelled_one_leaves_nothing },
        { "no room for the copy harms no write", a_full_disk_does_not_harm_writes },
        { "names are not taken twice", names_are_not_taken_twice },
        { "writes wait for a reflink, and no longer", writes_wait_for_a_reflink },
        { "reflinks that cannot be", reflinks_that_cannot_be },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("keep", cases);
}
