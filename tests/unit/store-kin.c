/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a delta rests on no file that is or could become something else than
 *       what it was made of (INV-KIN), and its parent learns of it.
 * Method: parents that must be refused, at once or because they change while
 *         the child is written or later. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/io.h"
#include "qcowstore/imglock.h"
#include "tests/unit/store-box.h"
#include "tests/unit/suite.h"

static void header_names_parent(void)
{
        struct box b;
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        box_begin(&b);
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);

        struct imghdr parent = box_header(b.parent, sector);
        struct imghdr child = box_header(b.child, sector);

        CU_ASSERT_EQUAL(child.backing_bytes, 6);
        CU_ASSERT(memcmp(sector + child.backing_offset, "parent", 6) == 0);
        CU_ASSERT(child.backing_qcow2);
        CU_ASSERT(memcmp(child.parent_uuid, parent.uuid, sizeof(parent.uuid)) == 0);
        CU_ASSERT_EQUAL(child.parent_state, parent.snaptable_sum);
        CU_ASSERT(parent.is_parent && !child.is_parent);
        box_end(&b);
}

/* as long as a name may be */
static void long_name(void)
{
        struct box b;
        char name[IMGHDR_NAME_MAX + 1] = "";
        char path[KIT_PATH_MAX + sizeof(name)];

        box_begin(&b);
        memset(name, 'n', IMGHDR_NAME_MAX);
        snprintf(path, sizeof(path), "%s/%s", b.folder, name);
        CU_ASSERT_EQUAL_FATAL(rename(b.parent, path), 0);
        b.child_options.backing = path;
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);
        box_agrees(b.child, b.ram.bytes, 2);
        unlink(path);
        box_end(&b);
}

static void refused(struct box *b, int rc, const char *text)
{
        struct err e = { 0 };
        int got = box_make_child(b, &e);

        if (got != rc || !strstr(e.text, text) || !strstr(e.text, b->child))
                fprintf(stderr, "%d: %s\n", got, e.text);
        CU_ASSERT_EQUAL(got, rc);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, text));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, b->child));
        CU_ASSERT_EQUAL(access(b->child, F_OK), -1);
        CU_ASSERT_FALSE(box_is_marked(b->parent));
}

static void unfit_parents(void)
{
        struct box b;

        box_begin(&b);
        b.child_options.disk_bytes -= BOX_PAGE;
        b.ram.range[0].bytes -= BOX_PAGE;
        refused(&b, -EINVAL, "take one of the same size");
        b.child_options.disk_bytes += 2 * BOX_PAGE;
        refused(&b, -EINVAL, "take one of the same size");
        b.child_options.disk_bytes -= BOX_PAGE;
        box_repeat_tag(b.parent, 2, 0);
        refused(&b, -EINVAL, "holds 2 snapshots");
        box_end(&b);
}

/* A QCOW2 file that somebody else made, and one that he made of ours. */
static void foreign_parents(void)
{
        struct box b;
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        box_begin(&b);
        box_header(b.parent, sector);

        AUTO_FD fd = open(b.parent, O_RDWR | O_CLOEXEC);

        sector[480] ^= 1;
        CU_ASSERT_EQUAL(io_pwrite_full(fd, sector, sizeof(sector), 0), 0);
        refused(&b, -EBADMSG, "changed by another program");
        memset(sector + 112, 0, 400);
        sector[63] = 0;                 /* no snapshots */
        CU_ASSERT_EQUAL(io_pwrite_full(fd, sector, sizeof(sector), 0), 0);

        struct err e = { 0 };

        CU_ASSERT_EQUAL(box_make_child(&b, &e), -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "was not made by snapback"));
        box_end(&b);
}

static void unfit_names(void)
{
        struct box b;
        char path[KIT_PATH_MAX + 16];

        box_begin(&b);
        b.child_options.backing = path;
        snprintf(path, sizeof(path), "%s/sub", b.folder);
        CU_ASSERT_EQUAL_FATAL(mkdir(path, 0700), 0);
        refused(&b, -EINVAL, "");                       /* a folder */
        snprintf(path, sizeof(path), "%s/sub/../parent", b.folder);
        CU_ASSERT_EQUAL(box_make_child(&b, NULL), 0);       /* another way to the same folder */
        unlink(b.child);
        box_make_parent_again(&b);
        snprintf(path, sizeof(path), "%s/sub/x", b.folder);
        CU_ASSERT_EQUAL(link(b.parent, path), 0);
        refused(&b, -EXDEV, "another folder");
        unlink(path);
        snprintf(path, sizeof(path), "%s/sub", b.folder);
        rmdir(path);
        snprintf(path, sizeof(path), "%s/absent", b.folder);
        refused(&b, -ENOENT, "open its parent");
        snprintf(path, sizeof(path), "%s/a:b", b.folder);
        CU_ASSERT_EQUAL(link(b.parent, path), 0);
        refused(&b, -EINVAL, "colon");
        unlink(path);
        snprintf(path, sizeof(path), "%s/link", b.folder);
        CU_ASSERT_EQUAL(symlink("parent", path), 0);
        refused(&b, -ELOOP, "symbolic link");
        unlink(path);
        box_end(&b);
}

/* --force over the parent, and over what the parent rests on */
static void own_ancestor(void)
{
        struct box b;
        struct qs_writer_options o;
        struct err e = { 0 };

        box_begin(&b);
        o = b.child_options;
        o.force = true;
        CU_ASSERT_EQUAL(kit_save(b.parent, &o, &b.ram, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "its own parent"));
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);
        o.backing = b.child;
        CU_ASSERT_EQUAL(kit_save(b.parent, &o, &b.ram, &e), -EINVAL);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "rests on the file"));
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

/* after the child was made */
static void parent_changes_later(void)
{
        struct box b;
        struct qs_image *image;
        struct err e = { 0 };

        box_begin(&b);
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);
        box_repeat_tag(b.parent, 1, 1000000000);
        CU_ASSERT_EQUAL(qs_image_open_path(b.child, NULL, &image, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "was changed since"));
        box_end(&b);
}

/* INV-KIN: while the child is written, by a change and by a replacement */
static void parent_changes_meanwhile(void)
{
        for (int how = 0; how < 2; how++) {
                struct box b;
                struct qs_writer *w;
                struct err e = { 0 };

                box_begin(&b);
                CU_ASSERT_EQUAL_FATAL(qs_writer_new(b.child, &b.child_options, &w, NULL), 0);

                struct qs_ram_source source = kit_source(&b.ram);

                CU_ASSERT_EQUAL(qs_writer_ram(w, b.ram.range, 1, &source, NULL, NULL, NULL), 0);
                if (how == 0)
                        box_repeat_tag(b.parent, 1, 5);
                else
                        box_make_parent_again(&b);
                CU_ASSERT_EQUAL(qs_writer_publish(w, &e), -ESTALE);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "meanwhile"));
                qs_writer_free(w);
                CU_ASSERT_EQUAL(access(b.child, F_OK), -1);
                CU_ASSERT_FALSE(box_is_marked(b.parent));
                box_end(&b);
        }
}

/* An appender keeps a delta from being begun; a delta in the making keeps him out,
 * and no other delta. */
static void locks(void)
{
        struct box b;
        struct qs_writer_options o;
        struct qs_writer *w;
        struct err e = { 0 };
        char path[KIT_PATH_MAX];

        box_begin(&b);

        AUTO_FD appender = open(b.parent, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(imglock_append(appender, NULL), 0);
        refused(&b, -EBUSY, "adding to it or rewriting it");
        fd_close(&appender);

        CU_ASSERT_EQUAL_FATAL(qs_writer_new(b.child, &b.child_options, &w, NULL), 0);

        AUTO_FD late = open(b.parent, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(imglock_append(late, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "making a delta"));
        o = b.child_options;
        CU_ASSERT_EQUAL(kit_save(kit_path(b.folder, "twin", path), &o, &b.ram, NULL), 0);
        box_agrees(path, b.ram.bytes, 2);
        unlink(path);
        qs_writer_free(w);
        CU_ASSERT_EQUAL(imglock_append(late, NULL), 0);
        box_end(&b);
}

/* What cannot be verified is not compared: there is no child. */
static void damaged_parent(void)
{
        struct box b;
        AUTO_FREE uint8_t *noise = calloc(1, 64 * BOX_PAGE);
        struct err e = { 0 };

        box_begin(&b);

        AUTO_FD fd = open(b.parent, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(io_pwrite_full(fd, noise, 64 * BOX_PAGE, BOX_PAGE), 0);
        CU_ASSERT_EQUAL(box_make_child(&b, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, b.parent));
        CU_ASSERT_EQUAL(access(b.child, F_OK), -1);
        CU_ASSERT_FALSE(box_is_marked(b.parent));
        box_end(&b);
}

/* the mark is best effort */
static void unwritable_parent(void)
{
        struct box b;

        box_begin(&b);
        CU_ASSERT_EQUAL(chmod(b.parent, 0400), 0);
        CU_ASSERT_EQUAL_FATAL(box_make_child(&b, NULL), 0);
        CU_ASSERT_EQUAL(box_is_marked(b.parent), geteuid() == 0);
        box_agrees(b.child, b.ram.bytes, 2);
        box_end(&b);
}

static const CU_TestInfo cases[] = {
        { "the header names the parent", header_names_parent },
        { "a name of 255 bytes", long_name },
        { "parents of another size or with several tags", unfit_parents },
        { "parents of other programs", foreign_parents },
        { "names that no reader would follow", unfit_names },
        { "no image replaces what it rests on", own_ancestor },
        { "a parent that changes later", parent_changes_later },
        { "a parent that changes meanwhile", parent_changes_meanwhile },
        { "appenders and deltas", locks },
        { "a damaged parent", damaged_parent },
        { "a parent that cannot be written", unwritable_parent },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-kin", cases);
}
