/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a chain of open files reads as one that was found by name, no other set of
 *       files passes for it (INV-CHAIN), and two images are the same only if no byte
 *       that can be read differs.
 * Method: three generations whose names are taken away; wrong sets of descriptors;
 *       files changed, copied and appended to between two openings. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-family.h"
#include "tests/unit/suite.h"

#define GENERATIONS 3

/* child -> parent -> base */
struct chain {
        struct family f;
        char base[KIT_PATH_MAX];
        struct kit_ram base_ram;
        int fds[GENERATIONS];
};

static void begin(struct chain *c)
{
        family_begin(&c->f, 12, 12);
        c->base_ram = family_ram(0x0f0f0f, 7);
        family_save(kit_path(c->f.folder, "base", c->base), &c->base_ram, 14);

        struct kin base = family_kin(c->base);

        family_name_parent(c->f.parent, "base", "qcow2", &base);
        family_name_parent(c->f.child, "parent", "qcow2", &c->f.kin);
        c->fds[0] = kit_open(c->f.child);
        c->fds[1] = kit_open(c->f.parent);
        c->fds[2] = kit_open(c->base);
}

static void end(struct chain *c)
{
        for (size_t i = 0; i < GENERATIONS; i++)
                close(c->fds[i]);
        unlink(c->base);
        free(c->base_ram.bytes);
        family_end(&c->f);
}

static struct qs_image *open_fds(const int *fds, size_t n)
{
        struct qs_image *image = NULL;
        struct err e = { 0 };

        CU_ASSERT_EQUAL(qs_image_open_chain(fds, n, "child", NULL, &image, &e), 0);
        CU_ASSERT_STRING_EQUAL(e.text, "");
        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        return image;
}

/* page by page: the youngest that has data */
static uint8_t *model_of(const struct chain *c)
{
        uint8_t *model = family_merged(&c->f, 12);
        static const uint8_t zeros[4096];

        for (size_t at = 0; at < FAMILY_RAM_BYTES; at += 4096) {
                if (memcmp(model + at, zeros, 4096) == 0)
                        memcpy(model + at, c->base_ram.bytes + at, 4096);
        }
        return model;
}

static void reads_without_names(void)
{
        struct chain c;

        begin(&c);
        unlink(c.f.child);
        unlink(c.f.parent);
        unlink(c.base);

        uint8_t *model = model_of(&c);
        struct qs_image *image = open_fds(c.fds, GENERATIONS);

        CU_ASSERT_EQUAL(kit_compare(image, model), 0);
        CU_ASSERT_EQUAL(qs_image_info(image)->layers, GENERATIONS);
        qs_image_close(image);
        free(model);
        end(&c);
}

/* What an open image says can be opened again elsewhere. */
static void hands_itself_over(void)
{
        struct chain c;
        struct qs_image *first;
        int fds[GENERATIONS];

        begin(&c);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(c.f.child, NULL, &first, NULL), 0);
        CU_ASSERT_STRING_EQUAL(qs_image_name(first, 0), c.f.child);
        CU_ASSERT_STRING_EQUAL(qs_image_name(first, 1), "parent");
        CU_ASSERT_STRING_EQUAL(qs_image_name(first, 2), "base");
        for (unsigned i = 0; i < GENERATIONS; i++)
                fds[i] = qs_image_fd(first, i);

        struct qs_image *second = open_fds(fds, GENERATIONS);

        CU_ASSERT(qs_image_same(first, second));
        CU_ASSERT_EQUAL(memcmp(qs_image_info(first)->identity, qs_image_info(second)->identity,
                               16), 0);
        qs_image_close(first);
        qs_image_close(second);
        end(&c);
}

/* generations, by number, in the order in which they are handed over; 9 = a folder */
static const struct {
        const char *who;
        int rc;
        const char *text;
} sets[] = {
        { "012",  0,        "" },
        { "12",   0,        "" },
        { "2",    0,        "" },
        { "0",    -ENOTSUP, "backing file, 'parent', which cannot be reached" },
        { "01",   -ENOTSUP, "parent 'parent': it has a backing file, 'base'" },
        { "021",  -EBADMSG, "'parent' is not the image it was made" },
        { "02",   -EBADMSG, "'parent' is not the image it was made" },
        { "00",   -EBADMSG, "'parent' is not the image it was made" },
        { "011",  -EBADMSG, "'base' is not the image it was made" },
        { "0122", -EINVAL,  "4 files were handed over, but it consists of 3" },
        { "20",   -EINVAL,  "2 files were handed over, but it consists of 1" },
        { "092",  -EINVAL,  "not a regular file" },
};

static void wrong_sets(void)
{
        struct chain c;

        begin(&c);

        AUTO_FD folder_fd = open(c.f.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
                struct qs_image *image = NULL;
                struct err e = { 0 };
                int fds[GENERATIONS + 1];
                size_t n = strlen(sets[i].who);

                for (size_t k = 0; k < n; k++)
                        fds[k] = sets[i].who[k] == '9' ? folder_fd : c.fds[sets[i].who[k] - '0'];

                int rc = qs_image_open_chain(fds, n, "child", NULL, &image, &e);

                if (rc != sets[i].rc || !strstr(e.text, sets[i].text))
                        fprintf(stderr, "%s: %d %s\n", sets[i].who, rc, e.text);
                CU_ASSERT_EQUAL(rc, sets[i].rc);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, sets[i].text));
                qs_image_close(image);
        }
        end(&c);
}

static void undeclared_parent(void)
{
        struct family f;
        struct qs_image *image;

        family_begin(&f, 12, 12);
        family_name_parent(f.child, "parent", "raw", &f.kin);

        int fds[] = { kit_open(f.child), kit_open(f.parent) };

        CU_ASSERT_EQUAL(qs_image_open_chain(fds, 2, "child", NULL, &image, NULL), -ENOTSUP);
        close(fds[0]);
        close(fds[1]);
        family_end(&f);
}

/* A liar's chain: each file is the same but for its parent's name. */
static void depth(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };
        int fds[QS_LAYERS_MAX + 1];
        size_t bytes;

        family_begin(&f, 12, 12);

        struct kin kin = family_kin(f.child);

        AUTO_FREE uint8_t *last = kit_load(f.child, &bytes);

        family_name_parent(f.child, "0", "qcow2", &kin);

        AUTO_FREE uint8_t *file = kit_load(f.child, &bytes);

        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                char path[KIT_PATH_MAX], name[16];

                snprintf(name, sizeof(name), "%zu", i);
                fds[i] = open(kit_path(f.folder, name, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
                ASSERT(fds[i] >= 0);
                snprintf(name, sizeof(name), "%zu", i + 1);

                bool is_last = i == QS_LAYERS_MAX;
                int rc = io_pwrite_full(fds[i], is_last ? last : file, bytes, 0);

                ASSERT(rc == 0);
                if (!is_last)
                        family_name_parent(path, name, "qcow2", &kin);
        }
        image = open_fds(fds + 1, QS_LAYERS_MAX);
        CU_ASSERT_EQUAL(qs_image_info(image)->layers, QS_LAYERS_MAX);
        qs_image_close(image);

        AUTO_FD folder_fd = open(f.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        CU_ASSERT_EQUAL(qs_image_open_at(fds[0], "0", NULL, folder_fd, -1, &image, &e), -EMLINK);
        for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
                char path[KIT_PATH_MAX], name[16];

                snprintf(name, sizeof(name), "%zu", i);
                unlink(kit_path(f.folder, name, path));
                close(fds[i]);
        }
        family_end(&f);
}

/* ---- identity --------------------------------------------------------------- */

static void put_bytes(int fd, const void *bytes, size_t n, off_t at)
{
        int rc = io_pwrite_full(fd, bytes, n, (uint64_t)at);

        ASSERT(rc == 0);
}

/* The file becomes what `other` holds, and keeps its inode, size and UUID. */
static void replace_content(const char *path, const char *other)
{
        size_t bytes;
        AUTO_FREE uint8_t *file = kit_load(other, &bytes);
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);

        struct kin kin = family_kin(path);

        memcpy(file + 128, kin.uuid, sizeof(kin.uuid));
        imghdr_seal(file);
        put_bytes(fd, file, bytes, 0);

        int rc = ftruncate(fd, (off_t)bytes);

        ASSERT(rc == 0);
}

static void other_content(void)
{
        struct chain c;
        char path[KIT_PATH_MAX];

        begin(&c);

        struct qs_image *before = open_fds(c.fds + 2, 1);
        struct kit_ram ram = family_ram(0x0f0f0f, 8);

        family_save(kit_path(c.f.folder, "new", path), &ram, 14);
        replace_content(c.base, path);

        struct qs_image *after = open_fds(c.fds + 2, 1);

        CU_ASSERT(!qs_image_same(before, after));
        CU_ASSERT_NOT_EQUAL(memcmp(qs_image_info(before)->identity,
                                   qs_image_info(after)->identity, 16), 0);
        qs_image_close(before);
        qs_image_close(after);
        free(ram.bytes);
        unlink(path);
        end(&c);
}

/* It may be a copy, but a file's maker can make its sums equal on purpose. */
static void other_file(void)
{
        struct chain c;
        char path[KIT_PATH_MAX];
        size_t bytes;

        begin(&c);

        AUTO_FREE uint8_t *file = kit_load(c.base, &bytes);
        int fd = open(kit_path(c.f.folder, "copy", path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        struct qs_image *a = open_fds(c.fds, GENERATIONS);

        put_bytes(fd, file, bytes, 0);

        struct qs_image *b = open_fds((int[]){ c.fds[0], c.fds[1], fd }, GENERATIONS);
        struct qs_image *shorter = open_fds(c.fds + 1, 2);

        CU_ASSERT(!qs_image_same(a, b));
        CU_ASSERT(!qs_image_same(a, shorter));
        CU_ASSERT(!qs_image_same(shorter, a));
        CU_ASSERT(qs_image_same(a, a));
        qs_image_close(a);
        qs_image_close(b);
        qs_image_close(shorter);
        close(fd);
        unlink(path);
        end(&c);
}

/* Adds a second name for the one snapshot at the end of the file, as an append does
 * it: the header is all that changes of the old file. */
static void append_tag(const char *path, const char *tag)
{
        size_t bytes, old;
        AUTO_FREE uint8_t *file = kit_load(path, &bytes);
        uint8_t table[2 * LAYOUT_SNAPSHOT_BYTES_MAX];
        struct imghdr h;
        struct snapshot s;
        int rc = imghdr_parse(file, MIN(bytes, IMGHDR_PARSE_BYTES), &h, NULL);

        ASSERT(rc == 0);
        rc = snaptable_parse(file + h.snaptable_offset, bytes - h.snaptable_offset, h.cluster_bits,
                             &s, &old, NULL);
        ASSERT(rc == 0);

        size_t n = snaptable_encode(&s, table);

        snprintf(s.tag, sizeof(s.tag), "%s", tag);
        snprintf(s.id, sizeof(s.id), "2");
        n += snaptable_encode(&s, table + n);

        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        uint64_t at = ALIGN_UP(bytes, 1ull << h.cluster_bits);

        put_be32(file + 60, 2);
        put_be64(file + 64, at);
        put_le64(file + 168, sum_bytes(table, n, h.hash_seed));
        imghdr_seal(file);
        put_bytes(fd, table, n, (off_t)at);
        put_bytes(fd, file, LAYOUT_SECTOR_BYTES, 0);
}

static void tags_of_one_file(void)
{
        struct family f;
        struct qs_image *before, *first, *second;

        family_begin(&f, 12, 12);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.parent, NULL, &before, NULL), 0);
        append_tag(f.parent, "second");

        const struct qs_open_options o = { .tag = "second" };

        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.parent, NULL, &first, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.parent, &o, &second, NULL), 0);
        CU_ASSERT(qs_image_same(before, first));
        CU_ASSERT_EQUAL(memcmp(qs_image_info(before)->identity, qs_image_info(first)->identity,
                               16), 0);
        CU_ASSERT(!qs_image_same(first, second));
        CU_ASSERT_NOT_EQUAL(memcmp(qs_image_info(first)->identity,
                                   qs_image_info(second)->identity, 16), 0);
        qs_image_close(before);
        qs_image_close(first);
        qs_image_close(second);
        family_end(&f);
}

static const CU_TestInfo cases[] = {
        { "descriptors are enough", reads_without_names },
        { "an open chain can be opened again", hands_itself_over },
        { "no other set of files passes", wrong_sets },
        { "a parent that is not declared to be qcow2", undeclared_parent },
        { "the deepest chain", depth },
        { "other content under the same UUID is another image", other_content },
        { "another file is another image", other_file },
        { "tags of one file are different images", tags_of_one_file },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-chain", cases);
}
