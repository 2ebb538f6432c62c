/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: two that contradict never have a disk open, QEMU and its tools included.
 * Method: pairs of ours; QEMU's bytes, locked by hand; qemu-io where it is installed. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/disk/disk.h"

static char path[] = "/tmp/disk-lock-test-XXXXXX";      /* set once, by main() */

enum how { READS, WRITES, OVERLAYS };

static int try_open(enum how how, struct disk **ret, struct err *e)
{
        const struct disk_options o = {
                .path = path, .read_only = how == READS, .overlay = how == OVERLAYS,
        };

        return disk_open(&o, ret, e);
}

static void ours_together(void)
{
        static const struct {
                const char *name;
                enum how first, second;
                int want;
        } rows[] = {
                { "two readers", READS, READS, 0 },
                { "two overlays", OVERLAYS, OVERLAYS, 0 },
                { "overlay beside a reader", READS, OVERLAYS, 0 },
                { "two writers", WRITES, WRITES, -EBUSY },
                { "writer beside a reader", READS, WRITES, -EBUSY },
                { "writer over an overlay's base", OVERLAYS, WRITES, -EBUSY },
                { "reader beside a writer", WRITES, READS, -EBUSY },
                { "overlay beside a writer", WRITES, OVERLAYS, -EBUSY },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct disk *one = NULL, *two = NULL;
                struct err e = { 0 };

                EXPECT_EQUAL(rows[i].name, try_open(rows[i].first, &one, &e), 0);
                EXPECT_EQUAL(rows[i].name, try_open(rows[i].second, &two, &e),
                             rows[i].want);
                if (rows[i].want)
                        EXPECT_TRUE(rows[i].name, strstr(e.text, "or use a copy"));
                disk_close(two);
                disk_close(one);
                EXPECT_EQUAL(rows[i].name, try_open(rows[i].second, &one, &e), 0);
                disk_close(one);
        }
}

/* Bytes as QEMU's raw driver locks them (disk-lock.h). */
static void qemu_bytes(void)
{
        static const struct {
                const char *name;
                off_t byte;
                int read, write;
        } rows[] = {
                { "a consistent reader", 100, 0, 0 },
                { "a writer", 101, -EBUSY, -EBUSY },
                { "a resizer", 103, -EBUSY, -EBUSY },
                { "who shares no reading", 200, -EBUSY, -EBUSY },
                { "who shares no writing", 201, 0, -EBUSY },
                { "who shares no resizing", 203, 0, 0 },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
                struct flock l = { .l_type = F_RDLCK, .l_start = rows[i].byte, .l_len = 1 };
                struct disk *d = NULL;

                CU_ASSERT_EQUAL_FATAL(fcntl(fd, F_OFD_SETLK, &l), 0);
                EXPECT_EQUAL(rows[i].name, try_open(READS, &d, NULL), rows[i].read);
                disk_close(d);
                d = NULL;
                EXPECT_EQUAL(rows[i].name, try_open(WRITES, &d, NULL), rows[i].write);
                disk_close(d);
        }
}

static void qemu_is_kept_out(void)
{
        char command[256];
        struct disk *d;

        if (system("qemu-io --version >/dev/null 2>&1") != 0) {
                printf(" (no qemu-io: skipped) ");
                return;
        }
        snprintf(command, sizeof(command), "qemu-io -f raw -c 'write 0 512' %s >/dev/null 2>&1",
                 path);
        CU_ASSERT_EQUAL_FATAL(try_open(WRITES, &d, NULL), 0);
        CU_ASSERT_NOT_EQUAL(system(command), 0);
        disk_close(d);
        CU_ASSERT_EQUAL(try_open(READS, &d, NULL), 0);
        CU_ASSERT_NOT_EQUAL(system(command), 0);
        disk_close(d);
        CU_ASSERT_EQUAL(system(command), 0);
}

static const CU_TestInfo cases[] = {
        { "many that read, or one that writes", ours_together },
        { "QEMU's locks are respected", qemu_bytes },
        { "QEMU's tools respect ours", qemu_is_kept_out },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        AUTO_FD fd = mkstemp(path);

        if (fd < 0 || ftruncate(fd, 65536) < 0) {
                perror(path);
                return 1;
        }

        unsigned before = expect_open_fds();
        int rc = suite_main("disk-lock", cases);

        unlink(path);
        if (expect_open_fds() != before) {
                fprintf(stderr, "descriptors are left open\n");
                rc = 1;
        }
        return rc;
}
