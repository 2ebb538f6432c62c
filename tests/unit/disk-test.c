/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a disk is read and written as its file is, in any pieces; what is no disk is refused
 *   with a sentence; errors reach the guest as -errno, and one that a flush told of stays.
 * Method: files in a folder of the test's; a limit on the size of files, a file that is cut
 *   short and a fdatasync() of the test's for errors (--wrap, tests/blk.inc); a loop device
 *   over a file where that is allowed. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/disk/disk.h"

#define MIB (1u << 20)
#define SECTOR DISK_SECTOR_BYTES

static char folder[] = "/tmp/disk-test-XXXXXX"; /* set once, by main() */

static const char *path_of(const char *name)
{
        static char path[128];

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        return path;
}

static uint8_t byte_at(uint64_t offset)
{
        return (uint8_t)(offset / SECTOR * 7 + offset % SECTOR + 1);
}

static void fill(uint8_t *buf, uint64_t offset, size_t bytes)
{
        for (size_t i = 0; i < bytes; i++)
                buf[i] = byte_at(offset + i);
}

/* A file of that many bytes that differ. */
static const char *make_file(const char *name, size_t bytes)
{
        const char *path = path_of(name);
        AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        AUTO_FREE uint8_t *data = malloc(bytes + 1);

        fill(data, 0, bytes);
        CU_ASSERT_EQUAL_FATAL(io_pwrite_full(fd, data, bytes, 0), 0);
        return path;
}

static struct disk *open_disk(const struct disk_options *o)
{
        struct disk *d = NULL;
        struct err e = { 0 };

        if (disk_open(o, &d, &e) < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_PTR_NOT_NULL_FATAL(d);
        return d;
}

static struct disk *open_at(const char *path)
{
        return open_disk(&(struct disk_options){ .path = path });
}

static int transfer(struct disk *d, bool write, void *buf, size_t bytes, uint64_t offset)
{
        struct iovec iov = { buf, bytes };

        return (write ? disk_write : disk_read)(d, &iov, 1, offset);
}

/* What is there is zeros, or what make_file() wrote. */
static bool is_there(struct disk *d, uint64_t offset, size_t bytes, bool zeros)
{
        AUTO_FREE uint8_t *got = malloc(bytes);
        bool same = transfer(d, false, got, bytes, offset) == 0;

        for (size_t i = 0; i < bytes && same; i++)
                same = got[i] == (zeros ? 0 : byte_at(offset + i));
        return same;
}

/* ---- what is opened ------------------------------------------------------ */

static void kinds(void)
{
        static const struct {
                const char *name, *path;        /* path NULL: a file of that many bytes */
                size_t bytes;
                int want;
                const char *says;
        } rows[] = {
                { "whole sectors", NULL, 4096, 0, NULL },
                { "rounded down", NULL, 1535, 0, NULL },
                { "empty", NULL, 0, -EINVAL, "truncate -s" },
                { "less than a sector", NULL, 511, -EINVAL, "truncate -s" },
                { "a folder", "/tmp", 0, -EISDIR, "'/tmp': it is a folder: give a raw" },
                { "a character device", "/dev/null", 0, -EINVAL, "it is no file" },
                { "nothing", "/tmp/disk-test/there/is/none", 0, -ENOENT, "No such file" },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                const char *path = rows[i].path ? rows[i].path : make_file("kind", rows[i].bytes);
                const struct disk_options o = { .path = path };
                struct err e = { 0 };
                struct disk *d = NULL;

                EXPECT_EQUAL(rows[i].name, disk_open(&o, &d, &e), rows[i].want);
                if (rows[i].says)
                        EXPECT_TRUE(rows[i].name, strstr(e.text, rows[i].says));
                else
                        EXPECT_EQUAL(rows[i].name, disk_bytes(d), rows[i].bytes & ~511u);
                disk_close(d);
        }
}

static void fifo_does_not_hang(void)
{
        const char *path = path_of("fifo");
        struct disk *d;

        CU_ASSERT_EQUAL_FATAL(mkfifo(path, 0600), 0);
        CU_ASSERT_EQUAL(disk_open(&(struct disk_options){ .path = path, .read_only = true }, &d,
                                  NULL), -EINVAL);
}

static void read_only_opens_for_reading(void)
{
        const char *path = make_file("ro", 4096);
        struct disk *d = open_disk(&(struct disk_options){ .path = path, .read_only = true });

        CU_ASSERT_TRUE(disk_read_only(d));
        CU_ASSERT_EQUAL(disk_discard_granularity(d), 0);
        CU_ASSERT_TRUE(is_there(d, 512, 1024, false));
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        CU_ASSERT_STRING_EQUAL(disk_path(d), path);
        disk_close(d);
}

/* ---- reading and writing ------------------------------------------------- */

static void pieces(void)
{
        struct disk *d = open_at(make_file("pieces", 2 * MIB));
        static uint8_t buf[70][1024];
        struct iovec iov[70];

        /* more of them than one system call takes, of all lengths */
        for (unsigned i = 0; i < ARRAY_SIZE(iov); i++)
                iov[i] = (struct iovec){ buf[i], i % 2 ? 1 : 1023 };
        CU_ASSERT_EQUAL(disk_read(d, iov, ARRAY_SIZE(iov), 3 * SECTOR), 0);
        CU_ASSERT_EQUAL(buf[0][0], byte_at(3 * SECTOR));
        CU_ASSERT_EQUAL(buf[69][0], byte_at(3 * SECTOR + 35 * 1024 - 1));

        for (unsigned i = 0; i < ARRAY_SIZE(iov); i++)
                memset(buf[i], 0, sizeof(buf[i]));
        CU_ASSERT_EQUAL(disk_write(d, iov, ARRAY_SIZE(iov), 3 * SECTOR), 0);
        CU_ASSERT_TRUE(is_there(d, 0, 3 * SECTOR, false));
        CU_ASSERT_TRUE(is_there(d, 3 * SECTOR, 35 * 1024, true));
        CU_ASSERT_TRUE(is_there(d, 3 * SECTOR + 35 * 1024, 4096, false));
        CU_ASSERT_EQUAL(disk_read(d, iov, 0, 2 * MIB), 0);
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        disk_close(d);
}

static uint64_t space_of(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void discards_and_zeroes(void)
{
        const char *path = make_file("holes", 2 * MIB);
        struct disk *d = open_at(path);
        uint64_t before = space_of(path);

        CU_ASSERT_TRUE(disk_discard_granularity(d) >= SECTOR);
        CU_ASSERT_EQUAL(disk_discard(d, 64 * 1024, 128 * 1024), 0);
        CU_ASSERT_TRUE(is_there(d, 64 * 1024, 128 * 1024, true));
        CU_ASSERT_EQUAL(disk_write_zeroes(d, MIB, 64 * 1024, true), 0);
        CU_ASSERT_TRUE(is_there(d, MIB, 64 * 1024, true));
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        CU_ASSERT_TRUE(space_of(path) + 192 * 1024 <= before);

        /* not of whole blocks, and with the space kept */
        before = space_of(path);
        CU_ASSERT_EQUAL(disk_write_zeroes(d, MIB + 512 * 1024 + 512, 9 * 512, false), 0);
        CU_ASSERT_EQUAL(disk_discard(d, 512 * 1024 + 512, 9 * 512), 0);
        CU_ASSERT_TRUE(is_there(d, MIB + 512 * 1024, 512, false));
        CU_ASSERT_TRUE(is_there(d, MIB + 512 * 1024 + 512, 9 * 512, true));
        CU_ASSERT_TRUE(is_there(d, MIB + 512 * 1024 + 5120, 4096, false));
        CU_ASSERT_TRUE(is_there(d, 512 * 1024, 512, false));
        CU_ASSERT_TRUE(is_there(d, 512 * 1024 + 512, 9 * 512, true));

        /* up to the end, which stays; nothing at all */
        CU_ASSERT_EQUAL(disk_discard(d, 2 * MIB - 65536, 65536), 0);
        CU_ASSERT_EQUAL(disk_write_zeroes(d, 2 * MIB - 65536, 65536, false), 0);
        CU_ASSERT_EQUAL(disk_discard(d, 2 * MIB, 0), 0);
        CU_ASSERT_EQUAL(disk_write_zeroes(d, 0, 0, true), 0);
        CU_ASSERT_TRUE(is_there(d, 0, 4096, false));
        disk_close(d);

        struct stat st;

        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT_EQUAL(st.st_size, 2 * MIB);
}

/* tmpfs cannot zero a range: it is written then. */
static void zeroes_are_written(void)
{
        static const char path[] = "/dev/shm/disk-test-zeroes";
        uint64_t bytes = 300 * 1024;
        AUTO_FREE uint8_t *data = malloc(bytes);
        AUTO_FD fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        if (fd < 0) {
                printf(" (no /dev/shm: skipped) ");
                return;
        }
        fill(data, 0, bytes);
        CU_ASSERT_EQUAL_FATAL(io_pwrite_full(fd, data, bytes, 0), 0);

        struct disk *d = open_at(path);

        unlink(path);
        CU_ASSERT_EQUAL(disk_write_zeroes(d, 4096, 200 * 1024, false), 0);
        CU_ASSERT_TRUE(is_there(d, 0, 4096, false));
        CU_ASSERT_TRUE(is_there(d, 4096, 200 * 1024, true));
        CU_ASSERT_TRUE(is_there(d, 204 * 1024, 96 * 1024, false));
        disk_close(d);
}

static void overlay_leaves_the_base(void)
{
        const char *path = make_file("base", MIB);
        struct disk *d = open_disk(&(struct disk_options){ .path = path, .overlay = true });
        uint8_t block[4096] = { 0 };

        CU_ASSERT_EQUAL(disk_write_zeroes(d, 0, 4096, true), 0);
        CU_ASSERT_EQUAL(disk_discard(d, 65536, 65536), 0);
        CU_ASSERT_EQUAL(transfer(d, true, block, sizeof(block), MIB - 4096), 0);
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        CU_ASSERT_TRUE(is_there(d, 0, 4096, true));
        CU_ASSERT_TRUE(is_there(d, 4096, 4096, false));
        CU_ASSERT_TRUE(is_there(d, 65536, 65536, true));
        CU_ASSERT_TRUE(is_there(d, MIB - 4096, 4096, true));
        disk_close(d);

        d = open_at(path);
        CU_ASSERT_TRUE(is_there(d, 0, MIB, false));
        disk_close(d);
}

/* ---- errors -------------------------------------------------------------- */

static void cut_short(void)
{
        const char *path = make_file("cut", MIB);
        struct disk *d = open_at(path);
        static uint8_t buf[MIB];

        CU_ASSERT_EQUAL(truncate(path, 4096), 0);
        CU_ASSERT_EQUAL(transfer(d, false, buf, 4096, 0), 0);
        CU_ASSERT_EQUAL(transfer(d, false, buf, 8192, 0), -EIO);
        CU_ASSERT_EQUAL(transfer(d, false, buf, 512, MIB - 512), -EIO);
        disk_close(d);
}

static void too_large(void)
{
        const char *path = make_file("limit", MIB);
        struct disk *d = open_at(path);
        struct rlimit before, limit;
        static uint8_t buf[MIB];

        CU_ASSERT_EQUAL_FATAL(truncate(path, 4096), 0);
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &before);
        limit = before;
        limit.rlim_cur = 256 * 1024;
        setrlimit(RLIMIT_FSIZE, &limit);

        /* the first call writes a part, the next fails */
        int over = transfer(d, true, buf, MIB, 0);
        int under = transfer(d, true, buf, 65536, 0);

        setrlimit(RLIMIT_FSIZE, &before);
        CU_ASSERT_EQUAL(over, -EFBIG);
        CU_ASSERT_EQUAL(under, 0);
        disk_close(d);
}

/* the linker's names: fdatasync() comes here, __real_ is it */
int __wrap_fdatasync(int fd);
int __real_fdatasync(int fd);

static int sync_errors[3];              /* of the next calls; 0 = none */
static unsigned syncs;

int __wrap_fdatasync(int fd)
{
        int why = syncs < ARRAY_SIZE(sync_errors) ? sync_errors[syncs] : 0;

        syncs++;
        errno = why;
        return why ? -1 : __real_fdatasync(fd);
}

/* The kernel says it once, and what was not written is lost. */
static void failed_flush_stays(void)
{
        struct disk *d = open_at(make_file("flush", 4096));

        sync_errors[0] = EINTR;
        sync_errors[2] = EIO;
        syncs = 0;
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        CU_ASSERT_EQUAL(syncs, 2);
        CU_ASSERT_EQUAL(disk_flush(d), -EIO);
        CU_ASSERT_EQUAL(disk_flush(d), -EIO);
        disk_close(d);
        d = open_at(make_file("flush", 4096));
        CU_ASSERT_EQUAL(disk_flush(d), 0);
        disk_close(d);
}

/* ---- block devices ------------------------------------------------------- */

static int loop_over(const char *path, char *ret_device, size_t room)
{
        AUTO_FD control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
        int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE);
        AUTO_FD file = open(path, O_RDWR | O_CLOEXEC);

        if (n < 0 || file < 0)
                return -1;
        snprintf(ret_device, room, "/dev/loop%d", n);

        AUTO_FD loop = open(ret_device, O_RDWR | O_CLOEXEC);
        struct loop_config config = { .fd = (uint32_t)file,
                                      .info.lo_flags = LO_FLAGS_AUTOCLEAR };

        return loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0 ? fd_take(&loop) : -1;
}

static void block_device(void)
{
        const char *path = make_file("loop", 2 * MIB);
        struct disk *d, *second = NULL;
        char device[64];
        AUTO_FD loop = loop_over(path, device, sizeof(device));
        const struct disk_options in_place = { .path = device };
        const struct disk_options over_it = { .path = device, .overlay = true,
                                              .overlay_dir = folder };
        uint8_t block[4096] = { 0 };
        struct err e = { 0 };

        if (loop < 0) {
                printf(" (no loop device: skipped) ");
                return;
        }
        d = open_at(device);
        CU_ASSERT_EQUAL(disk_bytes(d), 2 * MIB);
        CU_ASSERT_EQUAL(transfer(d, true, block, sizeof(block), MIB), 0);
        CU_ASSERT_TRUE(is_there(d, MIB, 4096, true));
        CU_ASSERT_TRUE(is_there(d, MIB + 4096, 65536, false));
        CU_ASSERT_EQUAL(disk_write_zeroes(d, 512, 9 * 512, false), 0);
        CU_ASSERT_EQUAL(disk_write_zeroes(d, 65536, 65536, true), 0);
        CU_ASSERT_TRUE(is_there(d, 0, 512, false));
        CU_ASSERT_TRUE(is_there(d, 512, 9 * 512, true));
        CU_ASSERT_TRUE(is_there(d, 65536, 65536, true));
        if (disk_discard_granularity(d)) {
                CU_ASSERT_EQUAL(disk_discard(d, 256 * 1024 + 512, 128 * 1024), 0);
                CU_ASSERT_TRUE(is_there(d, 256 * 1024, 512, false));
        }
        CU_ASSERT_EQUAL(disk_flush(d), 0);

        /* O_EXCL, and the locks */
        CU_ASSERT_EQUAL(disk_open(&in_place, &second, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "is mounted or in use"));
        CU_ASSERT_EQUAL(disk_open(&over_it, &second, &e), -EBUSY);
        disk_close(d);

        d = open_disk(&over_it);
        CU_ASSERT_EQUAL(disk_bytes(d), 2 * MIB);
        CU_ASSERT_EQUAL(transfer(d, true, block, sizeof(block), 600 * 1024), 0);
        CU_ASSERT_TRUE(is_there(d, 600 * 1024, sizeof(block), true));
        CU_ASSERT_TRUE(is_there(d, 600 * 1024 + sizeof(block), 4096, false));
        disk_close(d);
        d = open_at(device);
        CU_ASSERT_TRUE(is_there(d, 600 * 1024, 8192, false));
        disk_close(d);
}

static const CU_TestInfo cases[] = {
        { "only files and block devices with a sector are disks", kinds },
        { "a pipe is refused without waiting for its writer", fifo_does_not_hang },
        { "read_only opens for reading", read_only_opens_for_reading },
        { "scattered pieces", pieces },
        { "discards and zeroes, with the length kept", discards_and_zeroes },
        { "zeroes are written where the file system has nothing better", zeroes_are_written },
        { "an overlay leaves its base alone", overlay_leaves_the_base },
        { "a file that was cut short is an error of the disk", cut_short },
        { "a write that ends early is an error of the disk", too_large },
        { "a flush that failed fails for good", failed_flush_stays },
        { "a block device", block_device },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (!mkdtemp(folder)) {
                perror("mkdtemp");
                return 1;
        }

        unsigned before = expect_open_fds();
        int rc = suite_main("disk", cases);
        char command[128];

        if (expect_open_fds() != before) {
                fprintf(stderr, "descriptors are left open\n");
                rc = 1;
        }
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        return system(command) ? 1 : rc;
}
