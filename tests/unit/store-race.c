/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: who opens a tag reads what the file has when he holds it (INV-TAG of
 *       imglock.h), whatever became of the tag since he read the snapshot table.
 * Method: the linker's --wrap puts a function before fcntl; when a tag's byte is
 *       about to be locked for reading, the pool is changed first. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-tags.h"
#include "tests/unit/suite.h"

#define PAGES 60
#define TAG_BYTES_AT 1024

int __real_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...);

/* one thread, one test at a time */
static struct {
        void (*change)(struct tags *t);
        struct tags *tags;
        unsigned times;                 /* that it will be done yet */
        bool running;
} hook;

int __wrap_fcntl64(int fd, int cmd, ...)
{
        va_list ap;

        va_start(ap, cmd);

        void *arg = va_arg(ap, void *);

        va_end(ap);

        const struct flock *l = cmd == F_OFD_SETLK ? arg : NULL;

        if (l && l->l_type == F_RDLCK && l->l_start >= TAG_BYTES_AT && hook.times &&
            !hook.running) {
                hook.running = true;
                hook.times--;
                hook.change(hook.tags);
                hook.running = false;
        }
        return __real_fcntl64(fd, cmd, arg);
}

static void must(int rc)
{
        ASSERT(rc == 0);
}

static void add(struct tags *t, const char *name)
{
        uint8_t *ram = tags_ram(t, t->n ? "a" : NULL);

        tags_scribble(t, ram, t->n ? 10 : PAGES);
        t->options.force = tags_find(t, name) != NULL;
        must(tags_save(t, name, ram, NULL));
}

static void delete_b(struct tags *t)
{
        must(tags_delete(t, "b", NULL));
        add(t, "new");
}

static void delete_last(struct tags *t)
{
        must(tags_delete(t, "c", NULL));
}

static void replace_b(struct tags *t)
{
        add(t, "b");
}

static void add_more(struct tags *t)
{
        char name[8];

        snprintf(name, sizeof(name), "x%u", hook.times % 10);
        add(t, name);
}

static const struct row {
        const char *name;
        void (*change)(struct tags *t);
        unsigned times;
        const char *open;               /* NULL = default */
        int rc;
        const char *get;                /* the tag that is read then */
} rows[] = {
        { "nothing happens",             NULL,        0,  "b",  0,       "b" },
        { "it is deleted",               delete_b,    1,  "b",  -ENOENT, NULL },
        { "another one is deleted",      delete_last, 1,  "b",  0,       "b" },
        { "the default one is deleted",  delete_last, 1,  NULL, 0,       "b" },
        { "it is replaced",              replace_b,   1,  "b",  0,       "b" },
        { "it is replaced, is default",  replace_b,   1,  NULL, 0,       "b" },
        { "others come all the time",    add_more,    99, "a",  0,       "a" },
        { "another default all the time", add_more,   99, NULL, -EBUSY,  NULL },
};

static void look(const struct row *row, struct tags *t)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_image *image = NULL;
        struct err e = { 0 };

        hook.change = row->change;
        hook.tags = t;
        hook.times = row->times;
        EXPECT_EQUAL(row->name, qs_image_open(fd, t->path, row->open, &image, &e), row->rc);
        EXPECT_EQUAL(row->name, hook.times == row->times, row->times == 0);
        hook.times = 0;
        if (image && row->get) {
                /* and stays so, whatever is given out again */
                EXPECT_EQUAL(row->name, strcmp(qs_image_info(image)->tag, row->get), 0);
                add(t, "later");
                EXPECT_EQUAL(row->name, tags_differ(t, tags_find(t, row->get), image), 0);
        }
        qs_image_close(image);
        EXPECT_EQUAL(row->name, tags_wrong(t, true), 0);
}

static void changed_meanwhile(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct tags t;

                tags_init(&t, 12, PAGES * 4096ull, i + 1);
                add(&t, "a");
                add(&t, "b");
                add(&t, "c");
                look(&rows[i], &t);
                CU_ASSERT(tags_fini(&t));
        }
}

static const CU_TestInfo cases[] = {
        { "a pool changes while it is opened", changed_meanwhile },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-race", cases);
}
