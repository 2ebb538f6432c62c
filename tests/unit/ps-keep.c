/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: caches that nobody uses are kept as far as they fit, by the memory they take,
 *       and the one left longest ago goes first; one in use never goes. The
 *       descriptor store has each one before a client could be mapped from it
 *       (INV-STORED), and none that is gone.
 * Method: caches over the fake store, filled to known sizes; a socket pair in the
 *       place of the service manager. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/ps-kit.h"
#include "tests/unit/suite.h"

#define CLUSTER (1u << KIT_CLUSTER_BITS)

static struct cache *get(struct cache_list *list, int image)
{
        struct cache *c = NULL;
        int rc = kit_get(list, image, &c);

        CU_ASSERT_EQUAL_FATAL(rc, 0);
        return c;
}

static void use_once(struct cache_list *list, int image, unsigned clusters)
{
        struct cache *c = get(list, image);

        kit_fill(c, clusters);
        cache_put(list, c);
}

/* whether it is there with that many clusters filled; leaves all as it was but the order */
static bool is_kept(struct cache_list *list, int image)
{
        struct cache *c = get(list, image);
        bool kept = fillmap_filled(cache_map(c), 0);

        cache_put(list, c);
        return kept;
}

static struct cache_usage usage(const struct cache_list *list)
{
        struct cache_usage u;

        cache_list_usage(list, &u);
        return u;
}

static void warm(void)
{
        struct cache_list list = { .keep_bytes = 1 << 20 };
        int image = kit_image(2);
        char byte = 0;

        use_once(&list, image, 3);
        CU_ASSERT_EQUAL(usage(&list).used, 0);
        CU_ASSERT_EQUAL(usage(&list).idle, 1);
        CU_ASSERT_EQUAL(usage(&list).idle_bytes, 3 * CLUSTER);

        struct cache *c = get(&list, image);

        CU_ASSERT(fillmap_filled(cache_map(c), 2) && !fillmap_filled(cache_map(c), 3));
        CU_ASSERT(pread(cache_map_fd(c), &byte, 1, 2 * CLUSTER) == 1 && byte == 0x5a);
        CU_ASSERT_EQUAL(usage(&list).used, 1);
        CU_ASSERT_EQUAL(usage(&list).used_bytes, 3 * CLUSTER);
        CU_ASSERT_EQUAL(usage(&list).idle, 0);
        cache_put(&list, c);
        cache_list_fini(&list);
        CU_ASSERT_PTR_NULL(list.first);
        close(image);
}

static void nothing_kept(void)
{
        struct cache_list list = { .keep_bytes = 0 };
        int image = kit_image(2);

        use_once(&list, image, 1);
        CU_ASSERT_PTR_NULL(list.first);
        close(image);
}

/* ---- order ---------------------------------------------------------------------- */

/* use: images in turn, each filled by size[image] clusters when it is new; room for 10 */
static const struct {
        const char *what;
        const char *use;
        unsigned size[3];
        const char *kept;
} orders[] = {
        { "all fit",                              "abc",  { 3, 3, 4 }, "abc" },
        { "the first left goes",                  "abc",  { 4, 4, 4 }, "bc" },
        { "used again it is the last",            "abac", { 4, 4, 4 }, "ac" },
        { "as many go as need to",                "abc",  { 4, 4, 8 }, "c" },
        { "too large for all it goes alone",      "abc",  { 4, 4, 11 }, "ab" },
        { "as large as all it is the only one",   "abc",  { 4, 4, 10 }, "c" },
};

static void order(size_t row)
{
        struct cache_list list = { .keep_bytes = 10 * CLUSTER };
        bool used[3] = { false };
        int image[3];

        for (unsigned i = 0; i < ARRAY_SIZE(image); i++)
                image[i] = kit_image(20 + i);
        for (const char *u = orders[row].use; *u; u++) {
                unsigned i = (unsigned)(*u - 'a');

                use_once(&list, image[i], used[i] ? 0 : orders[row].size[i]);
                used[i] = true;
        }
        list.keep_bytes = UINT64_MAX;           /* looking must not push one out */
        for (unsigned i = 0; i < ARRAY_SIZE(image); i++) {
                bool want = strchr(orders[row].kept, 'a' + (int)i);

                if (is_kept(&list, image[i]) != want)
                        fprintf(stderr, "%s: %c\n", orders[row].what, 'a' + (int)i);
                CU_ASSERT_EQUAL(is_kept(&list, image[i]), want);
                close(image[i]);
        }
        cache_list_fini(&list);
}

static void orders_all(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(orders); i++)
                order(i);
}

static void used_stays(void)
{
        struct cache_list list = { .keep_bytes = 4 * CLUSTER };
        int used = kit_image(30), idle = kit_image(31);
        struct cache *c = get(&list, used);

        kit_fill(c, 8);
        use_once(&list, idle, 4);
        CU_ASSERT_EQUAL(usage(&list).idle, 1);  /* what is used does not count */
        cache_list_drop_idle(&list);
        CU_ASSERT_EQUAL(usage(&list).idle, 0);
        CU_ASSERT_EQUAL(usage(&list).used, 1);
        CU_ASSERT_EQUAL(usage(&list).used_bytes, 8 * CLUSTER);
        CU_ASSERT(fillmap_filled(cache_map(c), 7));
        cache_put(&list, c);
        close(used);
        close(idle);
}

static void replaced_file(void)
{
        struct cache_list list = { .keep_bytes = 4 * CLUSTER };
        struct fake_image other = {
                .seed = 41, .disk_bytes = KIT_BYTES, .cluster_bits = KIT_CLUSTER_BITS,
        };
        int image = kit_image(40);

        use_once(&list, image, 3);
        fake_image_update(image, &other);
        CU_ASSERT(!is_kept(&list, image));
        CU_ASSERT_EQUAL(usage(&list).idle, 2);
        use_once(&list, image, 3);              /* the old one ages out */
        CU_ASSERT_EQUAL(usage(&list).idle, 1);
        CU_ASSERT(is_kept(&list, image));
        cache_list_fini(&list);
        close(image);
}

/* ---- the descriptor store ----------------------------------------------------------- */

static void expect_note(int manager, const char *kind, const char *name, int same_as)
{
        struct fdnote note;
        struct stat a, b;
        int fd;

        CU_ASSERT_EQUAL_FATAL(fdstore_receive(manager, &note, &fd, NULL), 0);
        CU_ASSERT_EQUAL(note.store, !strcmp(kind, "store"));
        CU_ASSERT_EQUAL(note.remove, !strcmp(kind, "remove"));
        CU_ASSERT_STRING_EQUAL(note.name, name);
        CU_ASSERT_EQUAL(fd >= 0, same_as >= 0);
        if (fd < 0)
                return;
        CU_ASSERT(fstat(fd, &a) == 0 && fstat(same_as, &b) == 0 && a.st_ino == b.st_ino);
        close(fd);
}

static struct cache_names names_of(const struct cache *c)
{
        struct stat st;

        CU_ASSERT_FATAL(fstat(cache_fd(c), &st) == 0);
        return cache_names(KIT_UID, st.st_ino);
}

static bool is_silent(int manager)
{
        char byte;

        return recv(manager, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

static void stored(void)
{
        int pair[2], image = kit_image(50);

        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);

        struct fdstore store = { .sock = pair[0] };
        struct cache_list list = { .store = &store };
        struct cache *c = get(&list, image), *same = get(&list, image);

        struct cache_names n = names_of(c);

        expect_note(pair[1], "store", n.cache, cache_fd(c));
        expect_note(pair[1], "store", n.filled, cache_filled_fd(c));
        cache_put(&list, same);
        CU_ASSERT(is_silent(pair[1]));
        cache_put(&list, c);
        expect_note(pair[1], "remove", n.cache, -1);
        expect_note(pair[1], "remove", n.filled, -1);

        /* the end of the process is not the end of the cache */
        list.keep_bytes = 1 << 20;
        c = get(&list, image);
        expect_note(pair[1], "store", names_of(c).cache, cache_fd(c));
        expect_note(pair[1], "store", names_of(c).filled, cache_filled_fd(c));
        cache_put(&list, c);
        CU_ASSERT_EQUAL(usage(&list).idle, 1);
        cache_list_fini(&list);
        CU_ASSERT(is_silent(pair[1]));
        close(pair[0]);
        close(pair[1]);
        close(image);
}

static void not_stored(void)
{
        int pair[2], image = kit_image(51);
        struct cache *c = NULL;

        CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair), 0);
        close(pair[1]);

        struct fdstore store = { .sock = pair[0] };
        struct cache_list list = { .store = &store };

        CU_ASSERT(kit_get(&list, image, &c) < 0);       /* INV-STORED */
        CU_ASSERT_PTR_NULL(c);
        CU_ASSERT_PTR_NULL(list.first);
        close(pair[0]);
        close(image);
}

static const CU_TestInfo cases[] = {
        { "a cache that was left is found again, warm", warm },
        { "with no room none is kept", nothing_kept },
        { "who goes first, and how many", orders_all },
        { "what is used neither counts nor goes", used_stays },
        { "the cache of a replaced file is not found, and ages out", replaced_file },
        { "the store has it from the first to the last client", stored },
        { "without its place in the store a cache is not made", not_stored },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        kit_need_caches();
        return suite_main("keep", cases);
}
