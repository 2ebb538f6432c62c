/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an image reaches no file but a QCOW2 parent in its folder, no chain
 *       confuses the reader, and what a layer of ours holds is verified in any
 *       chain (INV-CHAIN, INV-VERIFIED).
 * Method: headers of our own images patched to name parents; traps in place of
 *       the parent. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "tests/unit/store-family.h"
#include "tests/unit/suite.h"

static void delta_reads_through(void)
{
        static const unsigned bits[][2] = { { 12, 12 }, { 14, 12 }, { 12, 14 }, { 16, 13 } };

        for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
                struct family f;
                struct qs_image *image;
                struct err e = { 0 };

                family_begin(&f, bits[i][0], bits[i][1]);
                family_name_parent(f.child, "parent", "qcow2", &f.kin);

                uint8_t *model = family_merged(&f, bits[i][1]);

                CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.child, NULL, &image, &e), 0);
                CU_ASSERT_EQUAL(kit_compare(image, model), 0);
                CU_ASSERT_EQUAL(qs_image_info(image)->layers, 2);
                CU_ASSERT_STRING_EQUAL(qs_image_info(image)->parent, "parent");
                qs_image_close(image);
                free(model);
                family_end(&f);
        }
}

/* A bit of the parent's data changed: the child's reader sees it. */
static void parent_is_verified(void)
{
        struct family f;
        struct qs_image *image;
        struct qs_reader *r;
        uint8_t buf[4096];
        struct err e = { 0 };
        unsigned bad = 0;

        family_begin(&f, 16, 12);
        family_name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = open(f.parent, O_RDWR | O_CLOEXEC);
        uint8_t byte;

        CU_ASSERT_EQUAL(io_pread_full(fd, &byte, 1, 65536 + 100), 0);
        byte ^= 1;
        CU_ASSERT_EQUAL(io_pwrite_full(fd, &byte, 1, 65536 + 100), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.child, NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        for (unsigned i = 0; i < FAMILY_RAM_BYTES / 4096; i++) {
                if (qs_cluster_read(r, i, buf, &e) < 0) {
                        bad++;
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "parent 'parent': its data"));
                }
        }
        CU_ASSERT(bad > 0);
        qs_reader_free(r);
        qs_image_close(image);
        family_end(&f);
}

/* name, format and the error that opening must give; the file "parent" is there */
static const struct {
        const char *name;
        const char *format;
        int rc;
        const char *text;
} names[] = {
        { "parent",                "qcow2", 0,        "" },
        { "parent",                "raw",   -ENOTSUP, "declared to be qcow2" },
        { "parent",                NULL,    -ENOTSUP, "declared to be qcow2" },
        { "./parent",              "qcow2", -EPERM,   "not in the folder of the image" },
        { "/etc/passwd",           "qcow2", -EPERM,   "not in the folder of the image" },
        { "../parent",             "qcow2", -EPERM,   "not in the folder of the image" },
        { "..",                    "qcow2", -EPERM,   "not in the folder of the image" },
        { "file:parent",           "qcow2", -EPERM,   "not a plain file name" },
        { "json:{\"driver\":\"\"}", "qcow2", -EPERM,  "not a plain file name" },
        { "nbd://host/x",          "qcow2", -EPERM,   "not a plain file name" },
        { "absent",                "qcow2", -ENOENT,  "absent" },
        { "child",                 "qcow2", -EBADMSG, "not the image it was made" },
        { "link",                  "qcow2", -ELOOP,   "link" },
        { "fifo",                  "qcow2", -EPERM,   "not a regular file" },
        { "noise",                 "qcow2", -EBADMSG, "not a QCOW2 file" },
};

static void make_traps(const struct family *f)
{
        char path[KIT_PATH_MAX];
        AUTO_FD fd = open(kit_path(f->folder, "noise", path), O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        int rc = io_pwrite_full(fd, f->parent_ram.bytes, 8192, 0);

        ASSERT(rc == 0);
        rc = symlink("parent", kit_path(f->folder, "link", path)) |
             mkfifo(kit_path(f->folder, "fifo", path), 0600);
        ASSERT(rc == 0);
}

static void remove_traps(const struct family *f)
{
        static const char *const traps[] = { "noise", "link", "fifo" };
        char path[KIT_PATH_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(traps); i++)
                unlink(kit_path(f->folder, traps[i], path));
}

static void hostile_names(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                struct family f;
                struct qs_image *image = NULL;
                struct err e = { 0 };

                family_begin(&f, 12, 12);
                make_traps(&f);
                family_name_parent(f.child, names[i].name, names[i].format, &f.kin);

                int rc = qs_image_open_path(f.child, NULL, &image, &e);

                if (rc != names[i].rc || !strstr(e.text, names[i].text))
                        fprintf(stderr, "%s: %d %s\n", names[i].name, rc, e.text);
                CU_ASSERT_EQUAL(rc, names[i].rc);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, names[i].text));
                if (rc == 0)
                        qs_image_close(image);
                remove_traps(&f);
                family_end(&f);
        }
}

/* by descriptor alone there is no folder */
static void no_folder(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        family_begin(&f, 12, 12);
        family_name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = kit_open(f.child);

        CU_ASSERT_EQUAL(qs_image_open(fd, f.child, NULL, &image, &e), -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "backing file, 'parent', which cannot be reached"));
        family_end(&f);
}

/* The name is gone, what it was a delta over is not known any more. */
static void orphan(void)
{
        struct family f;
        struct qs_image *image;
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        family_begin(&f, 12, 12);
        family_name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = open(f.child, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(io_pread_full(fd, sector, sizeof(sector), 0), 0);
        put_be64(sector + 8, 0);
        imghdr_seal(sector);
        CU_ASSERT_EQUAL(io_pwrite_full(fd, sector, sizeof(sector), 0), 0);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, &image, NULL), -EBADMSG);
        family_end(&f);
}

static void other_parent(void)
{
        struct family f;
        struct qs_image *image;

        family_begin(&f, 12, 12);
        family_name_parent(f.child, "parent", "qcow2", &f.kin);
        unlink(f.parent);
        family_save(f.parent, &f.parent_ram, 12);      /* the same RAM, another image */
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, &image, NULL), -EBADMSG);
        family_end(&f);
}

/* the same file, with another state in it */
static void changed_parent(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        family_begin(&f, 12, 12);
        f.kin.state ^= 1;
        family_name_parent(f.child, "parent", "qcow2", &f.kin);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, &image, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'parent' was changed since"));
        family_end(&f);
}

/* a -> b -> a, by UUIDs that a liar copied */
static void loop(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        family_begin(&f, 12, 12);

        struct kin child = family_kin(f.child);

        family_name_parent(f.child, "parent", "qcow2", &f.kin);
        family_name_parent(f.parent, "child", "qcow2", &child);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, &image, &e), -ELOOP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "comes back to 'child'"));
        family_name_parent(f.child, "child", "qcow2", &child);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, &image, &e), -ELOOP);
        family_end(&f);
}

static const CU_TestInfo cases[] = {
        { "a delta reads through to its parent", delta_reads_through },
        { "a parent's bytes are verified", parent_is_verified },
        { "names that lead elsewhere", hostile_names },
        { "no parent by descriptor alone", no_folder },
        { "a child without its parent's name", orphan },
        { "a parent that is another image", other_parent },
        { "a parent that was changed", changed_parent },
        { "loops", loop },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-parents", cases);
}
