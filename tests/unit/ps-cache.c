/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a memfd whose pages do not appear one by one (shared memory in huge pages) is
 *       told from one that can be an image cache, and the look leaves no page behind.
 *       Only those share a cache who read the same (INV-SAMEUSER).
 * Method: a memfd as the host gives it, and files in which a neighbour is there;
 *       pairs of requests over the fake store. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/check.h"
#include "pageserver/cache.h"
#include "tests/stress/fake-store.h"
#include "tests/unit/suite.h"

#define BYTES (8 << 20)

static int empty_memfd(void)
{
        int fd = memfd_create("test", MFD_CLOEXEC);

        CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, BYTES) == 0);
        return fd;
}

static bool is_empty(int fd)
{
        return lseek(fd, 0, SEEK_HOLE) == 0 && lseek(fd, 0, SEEK_DATA) < 0;
}

/* What the host does decides which; either way nothing may stay. */
static void leaves_nothing(void)
{
        int fd = empty_memfd();
        bool first = cache_fills_alone(fd);

        CU_ASSERT(is_empty(fd));
        CU_ASSERT(cache_fills_alone(fd) == first);
        close(fd);
}

static void neighbour(off_t at)
{
        int fd = empty_memfd();

        CU_ASSERT_FATAL(pwrite(fd, "", 1, at) == 1);
        CU_ASSERT(!cache_fills_alone(fd));
        close(fd);
}

static void page_before(void)
{
        neighbour(0);
}

static void page_behind(void)
{
        neighbour(2 * 4096);
}

/* ---- who shares ------------------------------------------------------------- */

struct asks {
        const char *tag;
        unsigned parents;               /* of the files below, from here on */
        unsigned layers;
        uid_t uid;
};

static const struct {
        const char *what;
        struct asks a, b;
        bool change;                    /* the image between the two */
        bool share;
} pairs[] = {
        { "the same",         { "x", 0, 1, 7 }, { "x", 0, 1, 7 }, false, true },
        { "the default tag",  { "", 0, 1, 7 }, { "default", 0, 1, 7 }, false, true },
        { "another tag",      { "x", 0, 1, 7 }, { "y", 0, 1, 7 }, false, false },
        { "another user",     { "x", 0, 1, 7 }, { "x", 0, 1, 8 }, false, false },
        { "the same chain",   { "x", 0, 3, 7 }, { "x", 0, 3, 7 }, false, true },
        { "another parent",   { "x", 0, 2, 7 }, { "x", 1, 2, 7 }, false, false },
        { "no parent",        { "x", 0, 2, 7 }, { "x", 0, 1, 7 }, false, false },
        { "other content",    { "x", 0, 1, 7 }, { "x", 0, 1, 7 }, true, false },
};

static const struct fake_image fake = { .seed = 3, .disk_bytes = 1 << 20, .cluster_bits = 14 };

/* files: an image and four that lie below */
static struct cache *ask(struct cache_list *list, const int files[5], const struct asks *asks)
{
        int fds[3] = { files[0], files[1 + asks->parents], files[2 + asks->parents] };
        const struct source_files chain = {
                .fds = fds, .n = asks->layers, .path = "fake", .tag = asks->tag,
        };
        struct source *own = NULL;
        struct cache *c = NULL;
        struct err e = { 0 };
        int rc = source_open(&chain, 1, &own, &e);

        CU_ASSERT_EQUAL_FATAL(rc, 0);
        rc = cache_get(list, asks->uid, &own, &c, &e);
        source_close(own);

        if (rc == -ENOTSUP)
                return NULL;            /* shared memory in huge pages */
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        return c;
}

static void sharing(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
                struct cache_list list = { NULL };
                struct fake_image image = fake;
                int files[5];

                for (size_t k = 0; k < ARRAY_SIZE(files); k++)
                        files[k] = fake_image_file(&fake);

                struct cache *a = ask(&list, files, &pairs[i].a);

                image.seed += pairs[i].change;
                fake_image_update(files[0], &image);

                struct cache *b = ask(&list, files, &pairs[i].b);

                if (a && (a == b) != pairs[i].share)
                        fprintf(stderr, "%s\n", pairs[i].what);
                CU_ASSERT(!a || (a == b) == pairs[i].share);
                cache_put(&list, a);
                cache_put(&list, b);
                CU_ASSERT_PTR_NULL(list.first);
                for (size_t k = 0; k < ARRAY_SIZE(files); k++)
                        close(files[k]);
        }
}

static const CU_TestInfo cases[] = {
        { "those who read the same share a cache, no others", sharing },
        { "the look leaves no page behind", leaves_nothing },
        { "a page that appears before the written one is seen", page_before },
        { "a page that appears behind it is seen", page_behind },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("cache", cases);
}
