/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what an image says of its disks comes back; a document that is damaged, or names files
 *       that are none of the image's, is refused; files are removed only if they are its own,
 *       and nothing needs them.
 * Method: tables of documents; files in a folder. The commands are in
 *         tests/flow/save-disks.sh. */
#include "vmm/kept-disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "qcowstore/store.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/meta.h"

#define BYTES 131072u
#define REST "\"bytes\":512,\"recipe\":1,\"content\":\"0123456789abcdef\"," \
             "\"mtime_ns\":1,\"inode\":2}"
#define DISK(id, kept, path) "{\"id\":\"" id "\",\"kept\":" kept ",\"path\":\"" path "\"," REST
#define SEVEN(d) d "," d "," d "," d "," d "," d "," d

static void documents(void)
{
        static const struct {
                const char *name;
                const char *text;
                int rc;
                unsigned n;
        } rows[] = {
                { "none", "{}", 0, 0 },
                { "no list", "{\"disks_kept\":{}}", -EBADMSG, 0 },
                { "of nothing", "{\"disks_kept\":[]}", 0, 0 },
                { "of numbers", "{\"disks_kept\":[1]}", -EBADMSG, 0 },
                { "two", "{\"disks_kept\":[" DISK("disk0", "true", "a-01234567.disk0") ","
                  DISK("disk1", "false", "/b") "]}", 0, 2 },
                { "too many", "{\"disks_kept\":["
                  SEVEN(DISK("disk0", "true", "a-01234567.disk0")) "]}", -EBADMSG, 0 },
                { "an id too long", "{\"disks_kept\":["
                  DISK("disk0disk0disk0disk0", "true", "a") "]}", -EBADMSG, 0 },
                { "no id", "{\"disks_kept\":[" DISK("", "true", "a") "]}", -EBADMSG, 0 },
                { "kept elsewhere", "{\"disks_kept\":["
                  DISK("disk0", "true", "../a-01234567.disk0") "]}",
                  -EBADMSG, 0 },
                { "kept anywhere", "{\"disks_kept\":[" DISK("disk0", "true", "/a") "]}",
                  -EBADMSG, 0 },
                { "kept as no save would name it", "{\"disks_kept\":["
                  DISK("disk0", "true", "secret.raw") "]}", -EBADMSG, 0 },
                { "kept with a short number", "{\"disks_kept\":["
                  DISK("disk0", "true", "a-1234567.disk0") "]}", -EBADMSG, 0 },
                { "kept as another disk", "{\"disks_kept\":["
                  DISK("disk0", "true", "a-01234567.disk1") "]}", -EBADMSG, 0 },
                { "a name that is all tail", "{\"disks_kept\":["
                  DISK("disk0", "true", "-01234567.disk0") "]}", -EBADMSG, 0 },
                { "not absolute", "{\"disks_kept\":[" DISK("disk0", "false", "a") "]}",
                  -EBADMSG, 0 },
                { "kept is a word", "{\"disks_kept\":[" DISK("disk0", "\"yes\"", "a") "]}",
                  -EBADMSG, 0 },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));
                AUTO_JSON *o = NULL;
                AUTO_JSON *again = json_object_new_object();

                CU_ASSERT_EQUAL_FATAL(json_parse(rows[i].text, strlen(rows[i].text), &o, NULL),
                                      0);
                EXPECT_EQUAL(rows[i].name, kept_disks_decode(o, k, NULL), rows[i].rc);
                if (rows[i].rc < 0)
                        continue;
                EXPECT_EQUAL(rows[i].name, k->n, rows[i].n);
                kept_disks_encode(k, again);

                AUTO_FREE struct kept_disks *twice = calloc(1, sizeof(*k));

                EXPECT_EQUAL(rows[i].name, kept_disks_decode(again, twice, NULL), 0);
                EXPECT_TRUE(rows[i].name, !memcmp(k, twice, sizeof(*k)));
        }
}

/* A file of that name with that identity, beside image, and what a meta would say of it. */
static void make_kept(const struct disk_kit *kit, const char *name, struct kept_disk *k)
{
        AUTO_FREE char *path = disk_kit_path(kit, name);
        struct disk *d = NULL;

        *k = (struct kept_disk){ .id = "disk0", .kept = true };
        ASSERT(link(kit->base, path) == 0);

        const struct disk_options o = { .path = path, .read_only = true };
        int rc = disk_open(&o, &d, NULL);

        ASSERT(rc == 0);
        rc = disk_identify(d, &k->identity, NULL);
        ASSERT(rc == 0);
        snprintf(k->identity.path, sizeof(k->identity.path), "%s", name);
        disk_close(d);
}

static void only_its_own_are_removed(void)
{
        static const struct {
                const char *name;
                bool kept;
                bool right;             /* its identity */
                bool goes;
        } rows[] = {
                { "vm-01234567.disk0", true, true, true },
                { "vm-11234567.disk0", false, true, false },
                { "vm-21234567.disk0", true, false, false },
                { "vmother-01234567.disk0", true, true, false },
                { "other", true, true, false },
        };
        struct disk_kit kit;

        disk_kit_init(&kit, BYTES);

        AUTO_FREE char *image = disk_kit_path(&kit, "vm");

        ASSERT(link(kit.base, image) == 0);
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));
                AUTO_FREE char *path = disk_kit_path(&kit, rows[i].name);

                k->n = 1;
                make_kept(&kit, rows[i].name, &k->disk[0]);
                k->disk[0].kept = rows[i].kept;
                if (!rows[i].right)
                        k->disk[0].identity.bytes++;
                kept_disks_remove(image, k, 1);
                EXPECT_EQUAL(rows[i].name, access(path, F_OK) != 0, rows[i].goes);
        }
        disk_kit_fini(&kit);
}

static void set_mtime(const char *path, int64_t ns)
{
        const struct timespec t[2] = {
                { .tv_nsec = UTIME_OMIT }, { ns / NS_PER_SEC, ns % NS_PER_SEC },
        };

        ASSERT(utimensat(AT_FDCWD, path, t, 0) == 0);
}

/* A machine has made it its own, or only reads it. */
static void disks_in_use(void)
{
        static const struct {
                const char *row;
                struct disk_options how;
                bool goes;
        } rows[] = {
                { "written in place", { .read_only = false }, false },
                { "under an overlay", { .overlay = true }, true },
                { "only read", { .read_only = true }, true },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));
                struct disk_options how = rows[i].how;
                struct disk_kit kit;
                struct disk *d = NULL;

                disk_kit_init(&kit, BYTES);

                AUTO_FREE char *image = disk_kit_path(&kit, "vm");
                AUTO_FREE char *path = disk_kit_path(&kit, "vm-01234567.disk0");

                ASSERT(link(kit.base, image) == 0);
                k->n = 1;
                make_kept(&kit, "vm-01234567.disk0", &k->disk[0]);
                how.path = path;
                CU_ASSERT_EQUAL_FATAL(disk_open(&how, &d, NULL), 0);
                /* opening it to write may have counted as a write */
                set_mtime(path, k->disk[0].identity.mtime_ns);
                kept_disks_remove(image, k, 1);
                EXPECT_EQUAL(rows[i].row, access(path, F_OK) != 0, rows[i].goes);
                disk_close(d);
                disk_kit_fini(&kit);
        }
}

/* An image with a snapshot of that tag, which keeps the disk of that name; NULL = it holds no
 * machine. */
static void add_snapshot(const char *image, const char *tag, const char *kept_name)
{
        struct qs_writer_options o = {
                .cluster_bits = 12, .disk_bytes = 1 << 20, .append = true, .threads = 1,
        };
        AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));
        struct meta m = { .name = "vm", .memory_bytes = 1 << 20, .cpus = 1 };
        AUTO_JSON *doc = meta_encode(&m);
        struct qs_writer *w = NULL;
        int rc;

        strcpy(o.tag, tag);
        rc = qs_writer_new(image, &o, &w, NULL);
        ASSERT(rc == 0);
        k->n = 1;
        k->disk[0] = (struct kept_disk){ .id = "disk0", .kept = true, .identity.bytes = 512 };
        strcpy(k->disk[0].identity.path, kept_name ? kept_name : "");
        kept_disks_encode(k, doc);

        const char *text = json_object_to_json_string(doc);

        if (kept_name) {
                rc = qs_writer_section(w, SECTION_META, text, strlen(text), NULL);
                ASSERT(rc == 0);
        }
        rc = qs_writer_publish(w, NULL);
        ASSERT(rc == 0);
        qs_writer_free(w);
}

static void garble(const char *image) { ASSERT(truncate(image, 1000) == 0); }
static void remove_it(const char *image) { ASSERT(unlink(image) == 0); }
static void do_nothing(const char *image) { (void)image; }

/* What cannot be read now may name the file, and does not become an image without its disk. */
static void what_an_image_names(void)
{
        static const struct {
                const char *row;
                void (*happens)(const char *image);
                const char *name;
                rlim_t files;           /* 0 = as many as one likes */
                enum kept_named want;
        } rows[] = {
                { "the first", do_nothing, "vm-00000001.disk0", 0, KEPT_NAMED },
                { "the second", do_nothing, "vm-00000002.disk0", 0, KEPT_NAMED },
                { "neither", do_nothing, "vm-00000003.disk0", 0, KEPT_NOT_NAMED },
                { "no image", remove_it, "vm-00000001.disk0", 0, KEPT_NOT_NAMED },
                { "a damaged one", garble, "vm-00000003.disk0", 0, KEPT_NOT_KNOWN },
                { "no descriptors left", do_nothing, "vm-00000003.disk0", 1, KEPT_NOT_KNOWN },
        };
        AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));

        k->n = 1;
        k->disk[0] = (struct kept_disk){ .id = "disk0", .kept = true };
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct disk_kit kit;
                struct rlimit was, few;

                disk_kit_init(&kit, BYTES);

                AUTO_FREE char *image = disk_kit_path(&kit, "vm");

                add_snapshot(image, "one", "vm-00000001.disk0");
                add_snapshot(image, "two", "vm-00000002.disk0");
                add_snapshot(image, "memory", NULL);
                rows[i].happens(image);
                strcpy(k->disk[0].identity.path, rows[i].name);
                ASSERT(getrlimit(RLIMIT_NOFILE, &was) == 0);
                few = (struct rlimit){ rows[i].files ? rows[i].files : was.rlim_cur,
                                       was.rlim_max };
                ASSERT(setrlimit(RLIMIT_NOFILE, &few) == 0);

                enum kept_named got = kept_disks_named(image, k);

                ASSERT(setrlimit(RLIMIT_NOFILE, &was) == 0);
                EXPECT_EQUAL(rows[i].row, got, rows[i].want);
                disk_kit_fini(&kit);
        }
}

static CU_TestInfo cases[] = {
        { "documents", documents },
        { "only its own files are removed", only_its_own_are_removed },
        { "a disk that is written in place stays", disks_in_use },
        { "what an image names, or may", what_an_image_names },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("kept-disks", cases);
}
