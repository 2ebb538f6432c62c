/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: --allow-parent opens one folder more for parents, and not a file beside it.
 * Method: a child in one folder, its parent and traps in another; a table of names
 *       and allowed folders. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-family.h"
#include "tests/unit/suite.h"

/* In the folder: child, near (a parent), base/parent, base/link -> parent,
 * base/fifo, base/deep/parent, other -> base */
struct place {
        struct family f;
        char path[7][KIT_PATH_MAX];
};

enum where { BASE, DEEP, PARENT, DEEP_PARENT, LINK, FIFO, OTHER };
static const char *const places[] = {
        "base", "base/deep", "base/parent", "base/deep/parent", "base/link", "base/fifo", "other",
};

static void begin(struct place *p)
{
        char near[KIT_PATH_MAX];
        struct family *f = &p->f;

        family_begin(f, 12, 12);
        for (size_t i = 0; i < ARRAY_SIZE(places); i++)
                kit_path(f->folder, places[i], p->path[i]);

        int rc = mkdir(p->path[BASE], 0700) | mkdir(p->path[DEEP], 0700) |
                 rename(f->parent, p->path[PARENT]) |
                 link(p->path[PARENT], p->path[DEEP_PARENT]) |
                 link(p->path[PARENT], kit_path(f->folder, "near", near)) |
                 symlink("parent", p->path[LINK]) | mkfifo(p->path[FIFO], 0600) |
                 symlink("base", p->path[OTHER]);

        ASSERT(rc == 0);
}

static void end(struct place *p)
{
        char near[KIT_PATH_MAX];

        for (size_t i = ARRAY_SIZE(places); i-- > PARENT;)
                unlink(p->path[i]);
        unlink(kit_path(p->f.folder, "near", near));
        rmdir(p->path[DEEP]);
        rmdir(p->path[BASE]);
        family_end(&p->f);
}

/* %s = the folder; allow is relative to it, NULL = not given */
static const struct {
        const char *name;
        const char *allow;
        int rc;
        const char *text;
} table[] = {
        { "parent",              NULL,        -ENOENT, "'parent'" },
        { "parent",              "base",      0,       "" },
        { "parent",              "other",     0,       "" },    /* the user's own link */
        { "near",                "base",      0,       "" },    /* its own folder first */
        { "absent",              "base",      -ENOENT, "'absent'" },
        { "link",                "base",      -ELOOP,  "'link'" },
        { "fifo",                "base",      -EPERM,  "not a regular file" },
        { "deep",                "base",      -EPERM,  "not a regular file" },
        { "base/parent",         NULL,        -EPERM,  "--allow-parent" },
        { "base/parent",         "base",      0,       "" },
        { "./base//parent",      "base",      0,       "" },
        { "other/parent",        "base",      0,       "" },    /* the same folder */
        { "base/deep/../parent", "base",      0,       "" },
        { "%s/base/parent",      "base",      0,       "" },
        { "%s/base/parent",      NULL,        -EPERM,  "nor directly in one that was allowed" },
        { "%s/base/parent",      "base/deep", -EPERM,  "nor directly" },
        { "base/deep/parent",    "base",      -EPERM,  "nor directly" },
        { "%s/near",             "base",      -EPERM,  "nor directly" },
        { "./near",              "base",      -EPERM,  "nor directly" },
        { "base/link",           "base",      -ELOOP,  "'base/link'" },
        { "base/fifo",           "base",      -EPERM,  "not a regular file" },
        { "base/deep",           "base",      -EPERM,  "not a regular file" },
        { "base/",               "base",      -EPERM,  "nor directly" },
        { "base/..",             "base",      -EPERM,  "nor directly" },
        { "base/.",              "base",      -EPERM,  "nor directly" },
        { "absent/parent",       "base",      -EPERM,  "nor directly" },
        { "file:base/parent",    "base",      -EPERM,  "not a plain file name" },
        { "json:{\"a\":\"/b\"}", "base",      -EPERM,  "not a plain file name" },
};

static void names(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
                struct place p;
                struct qs_image *image = NULL;
                struct err e = { 0 };
                char name[2 * KIT_PATH_MAX], allow[KIT_PATH_MAX];
                const char *slash = strstr(table[i].name, "%s");

                begin(&p);
                snprintf(name, sizeof(name), "%s%s", slash ? p.f.folder : "",
                         slash ? slash + 2 : table[i].name);
                family_name_parent(p.f.child, name, "qcow2", &p.f.kin);

                const struct qs_open_options o = {
                        .allow_parent = table[i].allow ?
                                        kit_path(p.f.folder, table[i].allow, allow) : NULL,
                };
                int rc = qs_image_open_path(p.f.child, &o, &image, &e);

                if (rc != table[i].rc || !strstr(e.text, table[i].text))
                        fprintf(stderr, "%s in %s: %d %s\n", table[i].name, table[i].allow, rc,
                                e.text);
                CU_ASSERT_EQUAL(rc, table[i].rc);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, table[i].text));
                qs_image_close(image);
                end(&p);
        }
}

/* child -> base/parent -> base/root: looked for beside its child, not beside the
 * image that was asked for, where a trap stands */
static void parents_of_parents(void)
{
        struct place p;
        struct qs_image *image = NULL;
        struct kit_ram ram = family_ram(0x3, 9);
        char root[KIT_PATH_MAX], trap[KIT_PATH_MAX];
        struct err e = { 0 };

        begin(&p);
        family_save(kit_path(p.f.folder, "base/root", root), &ram, 12);
        family_save(kit_path(p.f.folder, "root", trap), &ram, 12);

        struct kin kin = family_kin(root);

        family_name_parent(p.path[PARENT], "root", "qcow2", &kin);
        family_name_parent(p.f.child, "parent", "qcow2", &p.f.kin);

        const struct qs_open_options o = { .allow_parent = p.path[BASE] };

        CU_ASSERT_EQUAL(qs_image_open_path(p.f.child, &o, &image, &e), 0);
        CU_ASSERT_STRING_EQUAL(e.text, "");
        CU_ASSERT_EQUAL(qs_image_info(image)->layers, 3);
        qs_image_close(image);
        unlink(root);
        unlink(trap);
        free(ram.bytes);
        end(&p);
}

static void no_such_folder(void)
{
        struct place p;
        struct qs_image *image;
        struct err e = { 0 };

        begin(&p);

        struct qs_open_options o = { .allow_parent = p.path[PARENT] };

        CU_ASSERT_EQUAL(qs_image_open_path(p.f.child, &o, &image, &e), -ENOTDIR);
        o.allow_parent = "nowhere";
        CU_ASSERT_EQUAL(qs_image_open_path(p.f.child, &o, &image, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "folder 'nowhere'"));
        end(&p);
}

static const CU_TestInfo cases[] = {
        { "names and an allowed folder", names },
        { "a parent's parent lies beside it", parents_of_parents },
        { "an allowed folder that is none", no_such_folder },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-allow", cases);
}
