/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what is put away of a Firecracker's guest is read back the same; with a part
 *       missing, or a table that is not one, it is refused.
 * Method: a socket pair as the service manager, whose notes are given back as after a
 *       restart; a table of damages. */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/fcstay.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define PARTS 4

static const struct fcstay guest = {
        .attach = {
                .nuffds = 1, .nregions = 2, .region = {
                        { .hva = 1 << 30, .bytes = 1 << 20 },
                        { .hva = 3ull << 30, .bytes = 1 << 21, .gpa = 1 << 20 },
                },
        },
        .page_bytes = PSMSG_PAGE_HUGE, .pid = 77, .uid = 1000,
        .image = { .clusters = 768, .cluster_bits = 12, .image = "an identity", .tag = "t" },
        .table_fd = -1, .uffd = -1, .removed_fd = -1, .pidfd = -1,
};

struct kept {
        char name[PARTS][FDNOTE_NAME_MAX + 1];
        int fd[PARTS];
        unsigned n;
        uint64_t key;
};

/* The descriptors may be any: nobody looks at them here. */
static void put_away(struct kept *k, bool seen)
{
        int pair[2];
        struct fcstay g = guest;
        struct fdnote note;
        struct err e;

        CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);

        struct fdstore store = { .sock = pair[0] };

        g.uffd = eventfd(1, EFD_CLOEXEC);
        g.removed_fd = eventfd(2, EFD_CLOEXEC);
        g.pidfd = seen ? eventfd(3, EFD_CLOEXEC) : -1;
        CU_ASSERT_EQUAL_FATAL(fcstay_put(&store, &g, &k->key, &e), 0);
        for (k->n = 0; k->n < (seen ? 4u : 3u); k->n++) {
                CU_ASSERT_EQUAL_FATAL(fdstore_receive(pair[1], &note, &k->fd[k->n], NULL), 0);
                CU_ASSERT_TRUE(note.store && k->fd[k->n] >= 0);
                strcpy(k->name[k->n], note.name);
        }
        fcstay_drop(&store, k->key);
        for (unsigned i = 0; i < PARTS; i++) {
                int none;

                CU_ASSERT_EQUAL(fdstore_receive(pair[1], &note, &none, NULL), 0);
                CU_ASSERT_TRUE(note.remove);
                CU_ASSERT_TRUE(i >= k->n || !strcmp(note.name, k->name[i]));
        }
        fd_close(&g.uffd);
        fd_close(&g.removed_fd);
        fd_close(&g.pidfd);
        close(pair[0]);
        close(pair[1]);
}

static void give(struct fcstay **list, struct kept *k)
{
        for (unsigned i = k->n; i-- > 0;) {
                bool had = k->fd[i] >= 0;

                CU_ASSERT_EQUAL(had && fcstay_take(list, k->name[i], &k->fd[i]), had);
                CU_ASSERT_TRUE(k->fd[i] < 0);
        }
}

static void there_and_back(void)
{
        for (int seen = 0; seen < 2; seen++) {
                struct fcstay *list = NULL;
                struct kept k;

                put_away(&k, seen);
                give(&list, &k);
                CU_ASSERT_PTR_NOT_NULL_FATAL(list);
                CU_ASSERT_PTR_NULL(list->next);
                CU_ASSERT_TRUE(fcstay_read(list));
                CU_ASSERT_EQUAL(list->key, k.key);
                CU_ASSERT_EQUAL(list->pid, guest.pid);
                CU_ASSERT_EQUAL(list->uid, guest.uid);
                CU_ASSERT_EQUAL(list->page_bytes, guest.page_bytes);
                CU_ASSERT_EQUAL(list->pidfd >= 0, seen);
                CU_ASSERT_TRUE(list->attach.reattach);          /* lost messages */
                CU_ASSERT_EQUAL(list->attach.nregions, 2);
                CU_ASSERT_EQUAL(memcmp(&list->attach.region, &guest.attach.region,
                                       2 * sizeof(guest.attach.region[0])), 0);
                CU_ASSERT_EQUAL(list->image.clusters, guest.image.clusters);
                CU_ASSERT_EQUAL(list->image.cluster_bits, guest.image.cluster_bits);
                CU_ASSERT_STRING_EQUAL(list->image.tag, guest.image.tag);
                CU_ASSERT_EQUAL(memcmp(list->image.image, guest.image.image,
                                       sizeof(guest.image.image)), 0);
                fcstay_free(list);
        }
}

static void without_a_part(void)
{
        static const bool needed[] = { true, true, true, false };       /* as they come */

        for (unsigned i = 0; i < PARTS; i++) {
                struct fcstay *list = NULL;
                struct kept k;

                put_away(&k, true);
                fd_close(&k.fd[i]);
                give(&list, &k);
                EXPECT_EQUAL(k.name[i], fcstay_read(list), !needed[i]);
                fcstay_free(list);
        }
}

/* what a byte of the table becomes; offset -1: it is cut there instead */
static const struct {
        const char *what;
        off_t at;
        unsigned char byte;
        off_t cut;
} damages[] = {
        { "magic", 0, 'X', 0 },
        { "version", 8, 9, 0 },
        { "page size", 12, 1, 0 },
        { "more bytes than any message", 38, 0xff, 0 },
        { "fewer bytes than the message", 36, 1, 0 },
        { "a tag without end", 56 + 63, 'x', 0 },
        { "another message", 120, 0xff, 0 },
        { "no table", -1, 0, 0 },
        { "half a head", -1, 0, 60 },
        { "half a message", -1, 0, 140 },
};

static void damaged(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
                struct fcstay *list = NULL;
                struct kept k;

                put_away(&k, true);
                bool done = damages[i].at < 0 ?
                            ftruncate(k.fd[0], damages[i].cut) == 0 :
                            pwrite(k.fd[0], &damages[i].byte, 1, damages[i].at) == 1;

                EXPECT_TRUE(damages[i].what, done);
                give(&list, &k);
                EXPECT_TRUE(damages[i].what, !fcstay_read(list));
                fcstay_free(list);
        }
}

static void strange_names(void)
{
        static const char *const names[] = {
                "", "fc", "fc-", "fc-1", "fc-1-", "fc-1-tables", "fc-01-table", "fc--1-table",
                "fc-1-table ", "cache-1-2", "fc-99999999999999999999999-uffd",
        };
        struct fcstay *list = NULL;
        AUTO_FD fd = eventfd(0, EFD_CLOEXEC);

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                EXPECT_TRUE(names[i], !fcstay_take(&list, names[i], &fd));
        CU_ASSERT_PTR_NULL(list);
        CU_ASSERT_TRUE(fcstay_take(&list, "fc-1-table", &fd));
        fd = eventfd(0, EFD_CLOEXEC);
        CU_ASSERT_FALSE(fcstay_take(&list, "fc-1-table", &fd));         /* twice */
        fcstay_free(list);
}

static const CU_TestInfo cases[] = {
        { "a guest is read as it was put away", there_and_back },
        { "without one of its parts it is none", without_a_part },
        { "a damaged table is refused", damaged },
        { "other names are left alone", strange_names },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        unsigned before = expect_open_fds();
        int rc = suite_main("fcstay", cases);

        return rc ? rc : expect_open_fds() != before;
}
