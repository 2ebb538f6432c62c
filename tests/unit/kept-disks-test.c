/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what an image says of its disks comes back; a document that is damaged, or names files
 *       that are none of the image's, is refused; files are removed only if they are its own.
 * Method: tables of documents; files in a folder. The commands are in
 *         tests/flow/save-disks.sh. */
#include "vmm/kept-disks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/disk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

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
                { "two", "{\"disks_kept\":[" DISK("disk0", "true", "a-1.disk0") ","
                  DISK("disk1", "false", "/b") "]}", 0, 2 },
                { "too many", "{\"disks_kept\":[" SEVEN(DISK("disk0", "true", "a")) "]}",
                  -EBADMSG, 0 },
                { "an id too long", "{\"disks_kept\":["
                  DISK("disk0disk0disk0disk0", "true", "a") "]}", -EBADMSG, 0 },
                { "no id", "{\"disks_kept\":[" DISK("", "true", "a") "]}", -EBADMSG, 0 },
                { "kept elsewhere", "{\"disks_kept\":[" DISK("disk0", "true", "../a") "]}",
                  -EBADMSG, 0 },
                { "kept anywhere", "{\"disks_kept\":[" DISK("disk0", "true", "/a") "]}",
                  -EBADMSG, 0 },
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

static void what_was_wished(void)
{
        struct machine_config c = { .ndisks = 1, .disk = { { .id = "disk0" } } };
        AUTO_FREE struct kept_disks *k = calloc(1, sizeof(*k));
        struct disks_wish w = { .n = 0 };
        struct disk_kit kit;
        struct err e;

        disk_kit_init(&kit, BYTES);

        AUTO_FREE char *image = disk_kit_path(&kit, "vm");
        AUTO_FREE char *arg = NULL;
        int n = asprintf(&arg, "disk0=%s,trust", kit.base);

        ASSERT(n > 0 && link(kit.base, image) == 0);
        CU_ASSERT_EQUAL(kept_disks_find(k, image, &w, &c, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "does not say which disk"));
        CU_ASSERT_EQUAL(kept_disks_wish(&w, "=a", &e), -EINVAL);
        CU_ASSERT_EQUAL(kept_disks_wish(&w, "disk0=/nowhere", &e), 0);
        CU_ASSERT_EQUAL(kept_disks_wish(&w, arg, &e), 0);
        CU_ASSERT_EQUAL(kept_disks_find(k, image, &w, &c, &e), 0);
        CU_ASSERT_TRUE(c.disk[0].overlay);
        CU_ASSERT_EQUAL(c.disk[0].path[0], '/');
        w.in_place = true;
        CU_ASSERT_EQUAL(kept_disks_find(k, image, &w, &c, &e), 0);
        CU_ASSERT_FALSE(c.disk[0].overlay);
        while (w.n < MACHINE_DISKS_MAX)
                CU_ASSERT_EQUAL(kept_disks_wish(&w, arg, &e), 0);
        CU_ASSERT_EQUAL(kept_disks_wish(&w, arg, &e), -E2BIG);
        disk_kit_fini(&kit);
}

static CU_TestInfo cases[] = {
        { "documents", documents },
        { "only its own files are removed", only_its_own_are_removed },
        { "what was wished is opened", what_was_wished },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("kept-disks", cases);
}
