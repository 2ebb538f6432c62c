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
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define RAM_BYTES (24u * 4096)
#define EXT_AT 120                      /* our extension */
#define EXT_END 216
#define NAME_AT 256

/* pages: bit i = page i holds data, of this seed; others are zero */
static struct kit_ram make_ram(uint32_t pages, uint64_t seed)
{
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };
        uint64_t state = seed;

        ASSERT(ram.bytes);
        for (unsigned i = 0; i < RAM_BYTES / 4096; i++) {
                if (pages >> i & 1)
                        store_ram_page(ram.bytes + i * 4096, 4096, i % 2, &state);
        }
        return ram;
}

static void save(const char *path, struct kit_ram *ram, unsigned bits)
{
        struct qs_writer_options o = {
                .cluster_bits = bits, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 1,
                .disk_bytes = RAM_BYTES,
        };
        int rc = kit_save(path, &o, ram, NULL);

        ASSERT(rc == 0);
}

/* What a child must know of its parent. */
struct kin {
        uint8_t uuid[16];
        uint64_t state;
};

/* Makes the file a child of `name`, as a delta of ours would be; format NULL =
 * not said. */
static void name_parent(const char *path, const char *name, const char *format,
                        const struct kin *kin)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        int rc = io_pread_full(fd, sector, sizeof(sector), 0);

        ASSERT(rc == 0);
        put_be64(sector + 8, NAME_AT);
        put_be32(sector + 16, (uint32_t)strlen(name));
        memcpy(sector + NAME_AT, name, strlen(name));
        memcpy(sector + EXT_AT + 24, kin->uuid, 16);
        put_le64(sector + EXT_AT + 88, kin->state);
        if (format) {
                put_be32(sector + EXT_END, 0xe2792aca);
                put_be32(sector + EXT_END + 4, (uint32_t)strlen(format));
                memcpy(sector + EXT_END + 8, format, strlen(format));
        }
        imghdr_seal(sector);
        rc = io_pwrite_full(fd, sector, sizeof(sector), 0);
        ASSERT(rc == 0);
}

static struct kin kin_of(const char *path)
{
        AUTO_FD fd = kit_open(path);
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct imghdr h;
        struct kin kin;
        int rc = io_pread_full(fd, sector, sizeof(sector), 0);

        ASSERT(rc == 0);
        rc = imghdr_parse(sector, sizeof(sector), &h, NULL);
        ASSERT(rc == 0);
        memcpy(kin.uuid, h.uuid, sizeof(kin.uuid));
        kin.state = h.snaptable_sum;
        return kin;
}

struct family {
        char folder[KIT_PATH_MAX];
        char parent[KIT_PATH_MAX];
        char child[KIT_PATH_MAX];
        struct kit_ram parent_ram;
        struct kit_ram child_ram;
        struct kin kin;                 /* of the parent */
};

/* The child has every third page of its own. */
static void begin(struct family *f, unsigned parent_bits, unsigned child_bits)
{
        f->parent_ram = make_ram(0x00fff0f3, 5);
        f->child_ram = make_ram(0x00249249, 6);
        kit_folder(f->folder);
        save(kit_path(f->folder, "parent", f->parent), &f->parent_ram, parent_bits);
        save(kit_path(f->folder, "child", f->child), &f->child_ram, child_bits);
        f->kin = kin_of(f->parent);
}

static void end(struct family *f)
{
        unlink(f->parent);
        unlink(f->child);
        free(f->parent_ram.bytes);
        free(f->child_ram.bytes);
        CU_ASSERT(kit_gone(f->folder));
}

/* what both together hold: a cluster with any data is the child's */
static uint8_t *merged(const struct family *f, unsigned child_bits)
{
        uint8_t *model = malloc(RAM_BYTES);
        size_t cluster = (size_t)1 << child_bits;

        ASSERT(model);
        for (size_t at = 0; at < RAM_BYTES; at += cluster) {
                size_t n = MIN(cluster, RAM_BYTES - at);
                const uint8_t *own = f->child_ram.bytes + at;
                bool data = false;

                for (size_t i = 0; i < n; i++)
                        data |= own[i] != 0;
                memcpy(model + at, data ? own : f->parent_ram.bytes + at, n);
        }
        return model;
}

static void delta_reads_through(void)
{
        static const unsigned bits[][2] = { { 12, 12 }, { 14, 12 }, { 12, 14 }, { 16, 13 } };

        for (size_t i = 0; i < ARRAY_SIZE(bits); i++) {
                struct family f;
                struct qs_image *image;
                struct err e = { 0 };

                begin(&f, bits[i][0], bits[i][1]);
                name_parent(f.child, "parent", "qcow2", &f.kin);

                uint8_t *model = merged(&f, bits[i][1]);

                CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.child, NULL, NULL, &image, &e), 0);
                CU_ASSERT_EQUAL(kit_compare(image, model), 0);
                CU_ASSERT_EQUAL(qs_image_info(image)->layers, 2);
                CU_ASSERT_STRING_EQUAL(qs_image_info(image)->parent, "parent");
                qs_image_close(image);
                free(model);
                end(&f);
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

        begin(&f, 16, 12);
        name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = open(f.parent, O_RDWR | O_CLOEXEC);
        uint8_t byte;

        CU_ASSERT_EQUAL(io_pread_full(fd, &byte, 1, 65536 + 100), 0);
        byte ^= 1;
        CU_ASSERT_EQUAL(io_pwrite_full(fd, &byte, 1, 65536 + 100), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(f.child, NULL, NULL, &image, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        for (unsigned i = 0; i < RAM_BYTES / 4096; i++) {
                if (qs_cluster_read(r, i, buf, &e) < 0) {
                        bad++;
                        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "parent 'parent': its data"));
                }
        }
        CU_ASSERT(bad > 0);
        qs_reader_free(r);
        qs_image_close(image);
        end(&f);
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
        { "./parent",              "qcow2", -EPERM,   "folder of the image" },
        { "/etc/passwd",           "qcow2", -EPERM,   "folder of the image" },
        { "../parent",             "qcow2", -EPERM,   "folder of the image" },
        { "..",                    "qcow2", -EPERM,   "folder of the image" },
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

                begin(&f, 12, 12);
                make_traps(&f);
                name_parent(f.child, names[i].name, names[i].format, &f.kin);

                int rc = qs_image_open_path(f.child, NULL, NULL, &image, &e);

                if (rc != names[i].rc || !strstr(e.text, names[i].text))
                        fprintf(stderr, "%s: %d %s\n", names[i].name, rc, e.text);
                CU_ASSERT_EQUAL(rc, names[i].rc);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, names[i].text));
                if (rc == 0)
                        qs_image_close(image);
                remove_traps(&f);
                end(&f);
        }
}

/* by descriptor alone there is no folder */
static void no_folder(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        begin(&f, 12, 12);
        name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = kit_open(f.child);

        CU_ASSERT_EQUAL(qs_image_open(fd, f.child, NULL, &image, &e), -ENOTSUP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "backing file, 'parent', which cannot be reached"));
        end(&f);
}

/* The name is gone, what it was a delta over is not known any more. */
static void orphan(void)
{
        struct family f;
        struct qs_image *image;
        uint8_t sector[LAYOUT_SECTOR_BYTES];

        begin(&f, 12, 12);
        name_parent(f.child, "parent", "qcow2", &f.kin);

        AUTO_FD fd = open(f.child, O_RDWR | O_CLOEXEC);

        CU_ASSERT_EQUAL(io_pread_full(fd, sector, sizeof(sector), 0), 0);
        put_be64(sector + 8, 0);
        imghdr_seal(sector);
        CU_ASSERT_EQUAL(io_pwrite_full(fd, sector, sizeof(sector), 0), 0);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, NULL, &image, NULL), -EBADMSG);
        end(&f);
}

static void other_parent(void)
{
        struct family f;
        struct qs_image *image;

        begin(&f, 12, 12);
        name_parent(f.child, "parent", "qcow2", &f.kin);
        unlink(f.parent);
        save(f.parent, &f.parent_ram, 12);      /* the same RAM, another image */
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, NULL, &image, NULL), -EBADMSG);
        end(&f);
}

/* the same file, with another state in it */
static void changed_parent(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        begin(&f, 12, 12);
        f.kin.state ^= 1;
        name_parent(f.child, "parent", "qcow2", &f.kin);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, NULL, &image, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'parent' was changed since"));
        end(&f);
}

/* a -> b -> a, by UUIDs that a liar copied */
static void loop(void)
{
        struct family f;
        struct qs_image *image;
        struct err e = { 0 };

        begin(&f, 12, 12);

        struct kin child = kin_of(f.child);

        name_parent(f.child, "parent", "qcow2", &f.kin);
        name_parent(f.parent, "child", "qcow2", &child);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, NULL, &image, &e), -ELOOP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "comes back to 'child'"));
        name_parent(f.child, "child", "qcow2", &child);
        CU_ASSERT_EQUAL(qs_image_open_path(f.child, NULL, NULL, &image, &e), -ELOOP);
        end(&f);
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
