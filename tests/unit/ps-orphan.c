/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: INV-CLAIM: a cache that outlived its server goes only to a client of the same
 *       user who is mapped from it and reads the image it belongs to; then others may
 *       share it. What the dead server had not finished is not there any more.
 * Method: a first list makes and fills caches, whose descriptors a second list gets as
 *       its orphans, as after a restart; tables of who asks and of what is given. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/ps-kit.h"
#include "tests/unit/suite.h"

#define FILLED 3

/* a cache that its server has left, and one of its clients */
struct left {
        int image;
        int map_fd;
        int cache_fd;
        int filled_fd;
        struct cache_names names;
};

static void leave(uint64_t seed, struct left *ret)
{
        struct cache_list list = { .first = NULL };
        struct cache *c = NULL;
        struct stat st;

        ret->image = kit_image(seed);
        CU_ASSERT_EQUAL_FATAL(kit_get(&list, ret->image, &c), 0);
        kit_fill(c, FILLED);
        CU_ASSERT(pwrite(cache_fd(c), "torn", 4, 9 << KIT_CLUSTER_BITS) == 4);
        ret->map_fd = fcntl(cache_map_fd(c), F_DUPFD_CLOEXEC, 0);
        ret->cache_fd = fcntl(cache_fd(c), F_DUPFD_CLOEXEC, 0);
        ret->filled_fd = fcntl(cache_filled_fd(c), F_DUPFD_CLOEXEC, 0);
        CU_ASSERT_FATAL(fstat(ret->cache_fd, &st) == 0);
        ret->names = cache_names(KIT_UID, st.st_ino);
        cache_put(&list, c);
}

static void left_fini(struct left *l)
{
        fd_close(&l->image);
        fd_close(&l->map_fd);
        fd_close(&l->cache_fd);
        fd_close(&l->filled_fd);
}

static bool give(struct cache_list *list, const char *name, int fd)
{
        AUTO_FD own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

        return orphan_take(&list->orphans, name, &own);
}

static void give_both(struct cache_list *list, const struct left *l)
{
        CU_ASSERT(give(list, l->names.filled, l->filled_fd));
        CU_ASSERT(give(list, l->names.cache, l->cache_fd));
}

static void comes_back(void)
{
        struct cache_list list = { .first = NULL };
        struct cache *c = NULL, *again = NULL, *fresh = NULL;
        struct left l;
        char bytes[4];

        leave(60, &l);
        give_both(&list, &l);
        orphan_match(&list.orphans, NULL);
        CU_ASSERT_EQUAL(list.orphans.n, 1);

        /* it is no place for one who is not mapped from it */
        CU_ASSERT_EQUAL_FATAL(kit_get(&list, l.image, &fresh), 0);
        CU_ASSERT(!fillmap_filled(cache_map(fresh), 0));
        CU_ASSERT_EQUAL(list.orphans.n, 1);
        cache_put(&list, fresh);

        CU_ASSERT_EQUAL_FATAL(kit_rejoin(&list, l.image, KIT_UID, l.map_fd, &c), 0);
        CU_ASSERT_EQUAL(list.orphans.n, 0);
        CU_ASSERT(fillmap_filled(cache_map(c), FILLED - 1));
        CU_ASSERT(pread(l.map_fd, bytes, 4, (FILLED - 1) << KIT_CLUSTER_BITS) == 4 &&
                  bytes[0] == 0x5a);
        CU_ASSERT(lseek(l.map_fd, FILLED << KIT_CLUSTER_BITS, SEEK_DATA) < 0);

        /* from now on it is one like others */
        CU_ASSERT_EQUAL(kit_rejoin(&list, l.image, KIT_UID, l.map_fd, &again), 0);
        CU_ASSERT_PTR_EQUAL(again, c);
        CU_ASSERT_EQUAL(kit_get(&list, l.image, &fresh), 0);
        CU_ASSERT_PTR_EQUAL(fresh, c);
        cache_put(&list, c);
        cache_put(&list, again);
        cache_put(&list, fresh);
        CU_ASSERT_PTR_NULL(list.first);
        left_fini(&l);
}

/* ---- who asks ---------------------------------------------------------------------- */

enum asks_with { ITS_MAP, OTHER_MEMFD, IMAGE_FILE, PIPE };

static const struct {
        const char *what;
        bool other_image;
        uid_t uid;
        enum asks_with with;
        int rc;
} askers[] = {
        { "another user", false, KIT_UID + 1, ITS_MAP, -ESTALE },
        { "another image", true, KIT_UID, ITS_MAP, -ESTALE },
        { "another memfd", false, KIT_UID, OTHER_MEMFD, -ESTALE },
        { "the image file", false, KIT_UID, IMAGE_FILE, -ESTALE },
        { "no memory", false, KIT_UID, PIPE, -ESTALE },
        { "its client", false, KIT_UID, ITS_MAP, 0 },
};

static int descriptor(enum asks_with with, const struct left *l)
{
        int pair[2];

        switch (with) {
        case ITS_MAP:
                return fcntl(l->map_fd, F_DUPFD_CLOEXEC, 0);
        case OTHER_MEMFD:
                return memfd_create("image-cache", MFD_CLOEXEC);
        case IMAGE_FILE:
                return fcntl(l->image, F_DUPFD_CLOEXEC, 0);
        default:
                CU_ASSERT_FATAL(pipe2(pair, O_CLOEXEC) == 0);
                close(pair[1]);
                return pair[0];
        }
}

/* In one list: who is refused leaves it to its client. The same of a cache in use. */
static void who_asks(void)
{
        struct cache_list list = { .first = NULL };
        struct left l;
        struct cache *first = NULL;
        int other = kit_image(71);

        leave(70, &l);
        give_both(&list, &l);
        for (int in_use = 0; in_use < 2; in_use++) {
                for (size_t i = 0; i < ARRAY_SIZE(askers); i++) {
                        int image = askers[i].other_image ? other : l.image;
                        AUTO_FD fd = descriptor(askers[i].with, &l);
                        struct cache *c = NULL;

                        EXPECT_EQUAL(askers[i].what,
                                     kit_rejoin(&list, image, askers[i].uid, fd, &c),
                                     askers[i].rc);
                        if (!first)
                                first = c;
                        else
                                cache_put(&list, c);
                }
        }
        cache_put(&list, first);
        CU_ASSERT_PTR_NULL(list.first);
        left_fini(&l);
        close(other);
}

/* ---- what is given -------------------------------------------------------------------- */

static void strange_gifts(void)
{
        static const char *const names[] = {
                "", "cache", "cache-", "cache-7", "cache-7-", "cache-7-1-2", "cache--7-12",
                "cache-7-1 ", "Cache-7-1", "filled-7-+1", "filled-07-1", "socket",
                "filled-7-99999999999999999999999999",
        };
        struct cache_list list = { .first = NULL };
        struct left l;

        leave(80, &l);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                EXPECT_TRUE(names[i], !give(&list, names[i], l.cache_fd));
        CU_ASSERT(!give(&list, l.names.cache, l.image));        /* not the one it names */
        CU_ASSERT(give(&list, l.names.cache, l.cache_fd));
        CU_ASSERT(!give(&list, l.names.cache, l.cache_fd));     /* twice */
        CU_ASSERT_EQUAL(list.orphans.n, 1);
        orphan_match(&list.orphans, NULL);                      /* half of it */
        CU_ASSERT_EQUAL(list.orphans.n, 0);
        left_fini(&l);
}

/* Two that do not belong together are found out when they are claimed. */
static void wrong_halves(void)
{
        struct cache_list list = { .first = NULL };
        struct left a, b;
        struct cache *c = NULL;

        leave(90, &a);
        leave(91, &b);
        CU_ASSERT(give(&list, a.names.cache, a.cache_fd));
        CU_ASSERT(give(&list, a.names.filled, b.filled_fd));
        CU_ASSERT_EQUAL(kit_rejoin(&list, a.image, KIT_UID, a.map_fd, &c), -ESTALE);
        cache_list_fini(&list);

        CU_ASSERT(give(&list, a.names.cache, a.cache_fd));
        CU_ASSERT(give(&list, a.names.filled, a.cache_fd));
        CU_ASSERT_EQUAL(kit_rejoin(&list, a.image, KIT_UID, a.map_fd, &c), -ESTALE);
        CU_ASSERT_EQUAL(list.orphans.n, 1);
        cache_list_fini(&list);
        CU_ASSERT_EQUAL(list.orphans.n, 0);
        left_fini(&a);
        left_fini(&b);
}

static const CU_TestInfo cases[] = {
        { "an orphan comes back as a cache", comes_back },
        { "only its client gets it", who_asks },
        { "what is no cache is not taken", strange_gifts },
        { "halves of two caches are none", wrong_halves },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        kit_need_caches();

        unsigned before = expect_open_fds();
        int rc = suite_main("orphan", cases);

        return rc ? rc : expect_open_fds() != before;
}
