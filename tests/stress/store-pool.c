/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whoever reads a tag of a pool finds all of it, RAM and sections of one
 *       save, while tags are added, replaced and deleted; he is told when it is not
 *       there or goes just now. Of two who change the file at once one is told, and
 *       neither loses anything.
 * Method: every tag has a number, from which its RAM follows. Two threads change
 *       tags of their own, others open and read again and again, one of them
 *       slowly, one checks the whole file; at the end the file is what the two say.
 *       Run it under TSan. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define PAGE 4096u
#define PAGES 90u
#define BYTES ((uint64_t)PAGE * PAGES)
#define READERS 4
#define CHANGES 70                      /* of each changer */
#define TAGS_EACH 3
/* 20 s on average, for another one's sync may take long */
#define BUSY_PAUSE_MAX_NS 2000000
#define BUSY_IN_A_ROW_MAX 20000

static const char *const names[2][TAGS_EACH] = { { "a", "b", "c" }, { "x", "y", "z" } };

struct test {
        char path[KIT_PATH_MAX];
        atomic_uint changing;           /* changers that are not done */
        _Atomic uint64_t serial;
        atomic_uint wrong;
        atomic_uint reads;
        atomic_uint busy;
};

struct changer {
        struct test *test;
        unsigned index;
        uint64_t random;
        uint64_t serial[TAGS_EACH];     /* 0 = the tag is not there */
};

struct reader {
        struct test *test;
        unsigned index;
        uint64_t random;
};

/* Some pages are the same in all, some zero, some this one's own. */
static void make_page(uint64_t serial, uint64_t page, uint8_t *to)
{
        uint64_t state = page % 3 ? serial * 1000 + page + 1 : page + 1;
        unsigned kind = (unsigned)((serial + page) % 7);

        memset(to, 0, PAGE);
        store_ram_page(to, PAGE, page % 3 ? kind % 3 : 2, &state);
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, bool *ret_zero,
                        struct err *e)
{
        const uint64_t *serial = ctx;

        (void)ret_zero;
        (void)e;
        for (size_t at = 0; at < bytes; at += PAGE)
                make_page(*serial, (gpa + at) / PAGE, (uint8_t *)buf + at);
        return buf;
}

static void fail(struct test *t, const char *what, const char *tag, const struct err *e)
{
        fprintf(stderr, "FAIL: %s, tag '%s': %s\n", what, tag, e ? e->text : "");
        t->wrong++;
}

static int save(struct test *t, const char *tag, uint64_t serial, struct err *e)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .zstd_level = 1, .threads = 2, .disk_bytes = BYTES,
                .compress = serial % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE, .append = true,
                .force = true,
        };
        struct qs_ram_source source = { span, &serial };
        struct qs_ram_range all = { 0, BYTES };
        struct qs_writer *w = NULL;

        snprintf(o.tag, sizeof(o.tag), "%s", tag);

        int rc = qs_writer_new(t->path, &o, &w, e);

        if (rc == 0)
                rc = qs_writer_section(w, "SERIAL", &serial, sizeof(serial), e);
        if (rc == 0)
                rc = qs_writer_ram(w, &all, 1, &source, NULL, NULL, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        qs_writer_free(w);
        return rc;
}

static bool serial_of(struct qs_reader *r, uint64_t *ret)
{
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;

        if (qs_section_read(r, "SERIAL", &data, &bytes, NULL) < 0 || bytes != sizeof(*ret))
                return false;
        *ret = get_le64(data);
        return true;
}

/* All of it is of one save; *ret is which. */
static bool read_all(struct qs_image *image, bool slowly, uint64_t *ret)
{
        struct qs_reader *r = NULL;
        uint8_t page[PAGE];
        uint8_t model[PAGE];
        struct timespec pause = { 0, 200000 };
        bool ok = qs_reader_new(image, &r, NULL) == 0 && serial_of(r, ret);

        for (uint64_t i = 0; ok && i < PAGES; i++) {
                make_page(*ret, i, model);
                ok = qs_cluster_read(r, i, page, NULL) == 0 && memcmp(page, model, PAGE) == 0;
                if (slowly)
                        nanosleep(&pause, NULL);
        }
        qs_reader_free(r);
        return ok;
}

static int open_tag(const struct test *t, const char *tag, struct qs_image **ret, struct err *e)
{
        AUTO_FD fd = kit_open(t->path);

        return qs_image_open(fd, t->path, tag, ret, e);
}

static void *read_tags(void *arg)
{
        struct reader *me = arg;
        struct test *t = me->test;

        while (t->changing) {
                uint64_t what = store_random(&me->random) % (2 * TAGS_EACH + 1);
                const char *tag = what < 2 * TAGS_EACH ? names[what % 2][what / 2] : NULL;
                struct qs_image *image = NULL;
                struct err e = { 0 };
                uint64_t serial;
                int rc = open_tag(t, tag, &image, &e);

                if (rc == 0 && !read_all(image, me->index == 0, &serial))
                        fail(t, "not what was saved", tag ? tag : "default", NULL);
                else if (rc < 0 && rc != -EBUSY && (rc != -ENOENT || !tag))
                        fail(t, "open", tag ? tag : "default", &e);
                t->reads += rc == 0;
                qs_image_close(image);
        }
        return NULL;
}

static void say(void *ctx, const char *text)
{
        (void)ctx;
        fprintf(stderr, "%s\n", text);
}

/* one state of the file, tables that belong to no tag included */
static void check(struct test *t)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_check_report report;
        struct err e = { 0 };
        int rc = qs_check(fd, t->path, true, say, NULL, NULL, NULL, &report, &e);

        if (rc < 0 || report.corruptions + report.leaks || report.changed)
                fail(t, "check", "all", &e);
}

static void *check_file(void *arg)
{
        struct test *t = arg;

        while (t->changing)
                check(t);
        return NULL;
}

static int change_one(struct changer *me, struct err *e)
{
        unsigned i = (unsigned)(store_random(&me->random) % TAGS_EACH);
        bool delete = me->serial[i] && store_random(&me->random) % 3 == 0;
        uint64_t serial = delete ? 0 : ++me->test->serial;
        const char *tag = names[me->index][i];
        int rc = delete ? qs_snapshot_delete(me->test->path, tag, e)
                        : save(me->test, tag, serial, e);

        if (rc == 0)
                me->serial[i] = serial;
        return rc;
}

static void *change_tags(void *arg)
{
        struct changer *me = arg;
        struct test *t = me->test;
        unsigned busy = 0;

        for (unsigned done = 0; done < CHANGES && busy < BUSY_IN_A_ROW_MAX;) {
                struct timespec pause = { 0, (long)(store_random(&me->random) % BUSY_PAUSE_MAX_NS) };
                struct err e = { 0 };
                int rc = change_one(me, &e);

                if (rc < 0 && rc != -EBUSY)
                        fail(t, "change", names[me->index][0], &e);
                busy = rc == -EBUSY ? busy + 1 : 0;
                done += rc != -EBUSY;
                t->busy += rc == -EBUSY;
                nanosleep(&pause, NULL);
        }
        if (busy >= BUSY_IN_A_ROW_MAX)
                fail(t, "always busy", names[me->index][0], NULL);
        t->changing--;
        return NULL;
}

static void look_at_tag(struct test *t, const char *tag, uint64_t serial)
{
        struct qs_image *image = NULL;
        struct err e = { 0 };
        uint64_t found = 0;
        int rc = open_tag(t, tag, &image, &e);

        if (serial && (rc < 0 || !read_all(image, false, &found) || found != serial))
                fail(t, "not there at the end", tag, &e);
        if (!serial && rc != -ENOENT)
                fail(t, "still there at the end", tag, &e);
        qs_image_close(image);
}

static void look_at_all(struct test *t, const struct changer *changer)
{
        for (unsigned i = 0; i < 2 * TAGS_EACH; i++)
                look_at_tag(t, names[i % 2][i / 2], changer[i % 2].serial[i / 2]);
        look_at_tag(t, "first", 1);
        check(t);
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
        int rc = pthread_create(thread, NULL, run, arg);

        ASSERT(rc == 0);
}

int main(void)
{
        struct test t = { .changing = 2, .serial = 1 };
        struct changer changer[2];
        struct reader reader[READERS];
        pthread_t changers[2];
        pthread_t readers[READERS];
        pthread_t checker;
        char folder[KIT_PATH_MAX];
        int rc;

        kit_folder(folder);
        kit_path(folder, "pool", t.path);
        rc = save(&t, "first", 1, NULL);
        ASSERT(rc == 0);
        for (unsigned i = 0; i < 2; i++) {
                changer[i] = (struct changer){ .test = &t, .index = i, .random = 11 + i };
                start(&changers[i], change_tags, &changer[i]);
        }
        for (unsigned i = 0; i < READERS; i++) {
                reader[i] = (struct reader){ .test = &t, .index = i, .random = 77 + i };
                start(&readers[i], read_tags, &reader[i]);
        }
        start(&checker, check_file, &t);
        for (unsigned i = 0; i < 2; i++)
                pthread_join(changers[i], NULL);
        for (unsigned i = 0; i < READERS; i++)
                pthread_join(readers[i], NULL);
        pthread_join(checker, NULL);
        look_at_all(&t, changer);
        printf("%u changes, %u were refused, %u tags read\n", 2 * CHANGES, t.busy, t.reads);
        unlink(t.path);
        return t.wrong || t.reads == 0 || t.busy == 0 || !kit_gone(folder);
}
