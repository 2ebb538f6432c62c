/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a disk that was not touched, moved or copied is known again; one that was written, is
 *       shorter, or is another one is refused with a sentence; what is saved of it comes back,
 *       and no document crashes or passes that is not one.
 * Method: tables of what happens to a file, and of damaged documents. */
#include "vmm/disk/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define BYTES (8u << 20)

static void write_byte(const char *path, uint64_t offset)
{
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t byte = 0;
        int rc = io_pread_full(fd, &byte, 1, offset);

        byte++;
        if (rc == 0)
                rc = io_pwrite_full(fd, &byte, 1, offset);
        ASSERT(rc == 0);
}

static void copy(const char *from, const char *to)
{
        AUTO_FREE uint8_t *buf = malloc(BYTES);
        AUTO_FD in = open(from, O_RDONLY | O_CLOEXEC);
        AUTO_FD out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        int rc = io_pread_full(in, buf, BYTES, 0);

        if (rc == 0)
                rc = io_pwrite_full(out, buf, BYTES, 0);
        ASSERT(rc == 0);
}

/* As whoever reverts opens it. */
static int check(const struct disk_identity *id, const char *path, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        bool itself;

        return fd < 0 ? -errno : disk_identity_check(id, fd, path, &itself, e);
}

/* What happens to the file at path, or a copy of it that takes its place. */
static void nothing(const char *path) { (void)path; }
static void is_written(const char *path) { write_byte(path, BYTES / 2 + 12345); }
/* in a sample, by someone who has seen the file's number and time */
static void is_written_unseen(const char *path)
{
        struct stat st;

        ASSERT(stat(path, &st) == 0);
        write_byte(path, 1024);

        const struct timespec t[2] = { st.st_atim, st.st_mtim };

        ASSERT(utimensat(AT_FDCWD, path, t, 0) == 0);
}
static void is_cut(const char *path) { ASSERT(truncate(path, BYTES - 512) == 0); }
static void is_removed(const char *path) { unlink(path); }
static void is_folder(const char *path)
{
        unlink(path);
        ASSERT(mkdir(path, 0700) == 0);
}
static void is_copied(const char *path)
{
        char aside[400];

        snprintf(aside, sizeof(aside), "%s.aside", path);
        copy(path, aside);
        ASSERT(rename(aside, path) == 0);
}
static void copy_is_written(const char *path)
{
        is_copied(path);
        write_byte(path, 1024);
}
static void end_of_copy_is_written(const char *path)
{
        is_copied(path);
        write_byte(path, BYTES - 1);
}
static void is_moved(const char *path)
{
        char aside[400];

        snprintf(aside, sizeof(aside), "%s.aside", path);
        ASSERT(rename(path, aside) == 0 && rename(aside, path) == 0);
}

static void disks_are_known_again(void)
{
        static const struct {
                const char *name;
                void (*happens)(const char *path);
                int rc;
                const char *says;
        } rows[] = {
                { "nothing happens", nothing, 0, "" },
                { "moved", is_moved, 0, "" },
                { "copied", is_copied, 0, "" },
                { "written at once", is_written, -ESTALE, "was written to since" },
                { "cut", is_cut, -ESTALE, "has another size" },
                { "copied and written", copy_is_written, -ESTALE, "has other content" },
                { "copied and written at the end", end_of_copy_is_written, -ESTALE,
                  "has other content" },
                { "written, with its old time", is_written_unseen, -ESTALE, "has other content" },
                { "removed", is_removed, -ENOENT, "" },
                { "a folder", is_folder, -EINVAL, "look at disk" },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct disk_identity id, read;
                struct disk *d = NULL;
                struct disk_kit k;
                struct err e = { 0 };

                disk_kit_init(&k, BYTES);

                const struct disk_options o = { .path = k.base };

                CU_ASSERT_EQUAL_FATAL(disk_open(&o, &d, &e), 0);
                EXPECT_EQUAL(rows[i].name, disk_identify(d, &id, &e), 0);
                disk_close(d);

                AUTO_JSON *saved = disk_identity_encode(&id);

                EXPECT_EQUAL(rows[i].name, disk_identity_decode(saved, &read, &e), 0);
                EXPECT_TRUE(rows[i].name, read.path[0] == '/');
                rows[i].happens(k.base);
                EXPECT_EQUAL(rows[i].name, check(&read, k.base, &e), rows[i].rc);
                EXPECT_TRUE(rows[i].name, strstr(e.text, rows[i].says) != NULL);
                rmdir(k.base);
                disk_kit_fini(&k);
        }
}

/* INV-STAMP: within one tick of the file system's clock, over and over. */
static void a_write_right_after_shows(void)
{
        struct disk *d = NULL;
        struct disk_kit k;
        uint8_t sector[512] = { 1 };
        const struct iovec iov = { sector, sizeof(sector) };
        unsigned seen = 0;

        disk_kit_init(&k, BYTES);

        const struct disk_options o = { .path = k.base };

        CU_ASSERT_EQUAL_FATAL(disk_open(&o, &d, NULL), 0);
        for (unsigned i = 0; i < 20; i++) {
                struct disk_identity id;

                CU_ASSERT_EQUAL(disk_write(d, &iov, 1, 1024), 0);
                CU_ASSERT_EQUAL(disk_identify(d, &id, NULL), 0);
                CU_ASSERT_EQUAL(disk_write(d, &iov, 1, 1024), 0);
                seen += check(&id, k.base, NULL) == -ESTALE;
        }
        CU_ASSERT_EQUAL(seen, 20);
        disk_close(d);
        disk_kit_fini(&k);
}

static void overlays_have_none(void)
{
        struct disk_identity id;
        struct disk *d = NULL;
        struct disk_kit k;
        struct err e;

        disk_kit_init(&k, BYTES);

        const struct disk_options o = { .path = k.base, .overlay = true };

        CU_ASSERT_EQUAL_FATAL(disk_open(&o, &d, NULL), 0);
        CU_ASSERT_EQUAL(disk_identify(d, &id, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "--disks auto"));
        disk_close(d);
        disk_kit_fini(&k);
}

static void sizes(void)
{
        static const size_t bytes[] = { 512, 4096, 131072, 131072 + 512, 1 << 20,
                                        (1 << 20) + 4096, 3 << 20 };

        for (unsigned i = 0; i < ARRAY_SIZE(bytes); i++) {
                struct disk_identity a, b;
                struct disk_kit k;
                AUTO_FD fd = -1;

                disk_kit_init(&k, bytes[i]);
                fd = open(k.base, O_RDONLY | O_CLOEXEC);
                CU_ASSERT_EQUAL(disk_identity_of(fd, k.base, &a, NULL), 0);
                write_byte(k.base, bytes[i] - 1);
                CU_ASSERT_EQUAL(disk_identity_of(fd, k.base, &b, NULL), 0);
                CU_ASSERT_EQUAL(a.bytes, bytes[i]);
                CU_ASSERT_NOT_EQUAL(a.content, b.content);
                disk_kit_fini(&k);
        }
}

#define DOC(path, bytes, recipe, content, mtime) \
        "{\"path\":" path ",\"bytes\":" bytes ",\"recipe\":" recipe ",\"content\":" content \
        ",\"mtime_ns\":" mtime ",\"inode\":18446744073709551615}"

static void documents(void)
{
        static const struct {
                const char *name;
                const char *text;
                int rc;
        } rows[] = {
                { "whole", DOC("\"a\"", "512", "1", "\"00000000000000ff\"", "-1"), 0 },
                { "empty", "{}", -EBADMSG },
                { "no path", DOC("\"\"", "512", "1", "\"00000000000000ff\"", "1"), -EBADMSG },
                { "a negative size", DOC("\"a\"", "-1", "1", "\"00000000000000ff\"", "1"),
                  -EBADMSG },
                { "a newer recipe", DOC("\"a\"", "1", "2", "\"00000000000000ff\"", "1"),
                  -ENOTSUP },
                { "short content", DOC("\"a\"", "1", "1", "\"ff\"", "1"), -EBADMSG },
                { "no digits", DOC("\"a\"", "1", "1", "\"0x000000000000ff\"", "1"), -EBADMSG },
                { "content is a number", DOC("\"a\"", "1", "1", "7", "1"), -EBADMSG },
                { "time is text", DOC("\"a\"", "1", "1", "\"00000000000000ff\"", "\"1\""),
                  -EBADMSG },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = NULL;
                struct disk_identity id;

                CU_ASSERT_EQUAL_FATAL(json_parse(rows[i].text, strlen(rows[i].text), &o, NULL),
                                      0);
                EXPECT_EQUAL(rows[i].name, disk_identity_decode(o, &id, NULL), rows[i].rc);
                if (rows[i].rc == 0) {
                        EXPECT_EQUAL(rows[i].name, id.content, 255);
                        EXPECT_EQUAL(rows[i].name, id.mtime_ns, -1);
                        EXPECT_TRUE(rows[i].name, id.inode == UINT64_MAX);
                }
        }
}

static CU_TestInfo cases[] = {
        { "disks are known again, or refused", disks_are_known_again },
        { "a write right after shows", a_write_right_after_shows },
        { "an overlay has no identity", overlays_have_none },
        { "disks of any size have one, up to their end", sizes },
        { "documents", documents },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("disk-identity", cases);
}
