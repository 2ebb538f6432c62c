/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: all long work says how far it is, one thread at a time, and ends when it
 *       is told to, with nothing left behind.
 * Method: each piece of work once as it is and then cancelled at its first,
 *         second and third step, in a folder that must be as before. */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define RAM_BYTES (40u << 20)
#define STEPS 3

struct place {
        char folder[KIT_PATH_MAX];
        char raw[KIT_PATH_MAX];
        char image[KIT_PATH_MAX];
        char out[KIT_PATH_MAX];         /* not there */
};

struct seen {
        uint64_t calls;
        uint64_t cancel_at;             /* UINT64_MAX = never */
        uint64_t total;
        bool wrong;                     /* two at a time, or numbers that cannot be */
        _Atomic int inside;
};

static bool on_progress(void *ctx, uint64_t done, uint64_t total)
{
        struct seen *s = ctx;

        s->wrong |= atomic_fetch_add(&s->inside, 1) != 0;
        s->wrong |= total == 0 || done > total || (s->total && total != s->total);
        s->total = total;

        bool go = s->calls++ != s->cancel_at;

        atomic_fetch_sub(&s->inside, 1);
        return go;
}

static int do_import(const struct place *p, struct seen *s, struct err *e)
{
        struct qs_writer_options o = { .cluster_bits = 14 };

        return qs_import(p->raw, p->out, &o, on_progress, s, NULL, e);
}

static int do_export(const struct place *p, struct seen *s, struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(p->image, NULL, &image, e);

        ASSERT(rc == 0);
        rc = qs_export(image, p->out, false, on_progress, s, e);
        qs_image_close(image);
        return rc;
}

static int do_compare(const struct place *p, struct seen *s, struct err *e)
{
        struct qs_image *image;
        uint64_t gpa;
        int rc = qs_image_open_path(p->image, NULL, &image, e);

        ASSERT(rc == 0);
        rc = qs_compare(image, image, on_progress, s, &gpa, e);
        qs_image_close(image);
        return rc;
}

static int check(const struct place *p, bool contents, struct seen *s, struct err *e)
{
        AUTO_FD fd = kit_open(p->image);
        struct qs_check_report report;

        return qs_check(fd, p->image, contents, NULL, NULL, on_progress, s, &report, e);
}

static int do_check(const struct place *p, struct seen *s, struct err *e)
{
        return check(p, false, s, e);
}

static int do_verify(const struct place *p, struct seen *s, struct err *e)
{
        return check(p, true, s, e);
}

static const struct {
        const char *name;
        int (*run)(const struct place *p, struct seen *s, struct err *e);
} works[] = {
        { "import", do_import }, { "export", do_export }, { "compare", do_compare },
        { "check", do_check }, { "verify", do_verify },
};

static void make_place(struct place *p)
{
        AUTO_FREE uint8_t *ram = calloc(1, RAM_BYTES);
        struct qs_writer_options o = { .cluster_bits = 14 };

        ASSERT(ram);
        store_ram_fill(ram, RAM_BYTES, 9);
        kit_folder(p->folder);
        kit_path(p->folder, "image", p->image);
        kit_path(p->folder, "out", p->out);

        FILE *f = fopen(kit_path(p->folder, "raw", p->raw), "wb");

        ASSERT(f);

        size_t done = fwrite(ram, 1, RAM_BYTES, f);

        fclose(f);
        ASSERT(done == RAM_BYTES);

        int rc = qs_import(p->raw, p->image, &o, NULL, NULL, NULL, NULL);

        ASSERT(rc == 0);
}

static unsigned files_in(const char *folder)
{
        DIR *dir = opendir(folder);
        unsigned n = 0;

        ASSERT(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n - 2;                   /* itself and its parent */
}

static void run_one(const struct place *p, size_t i, uint64_t cancel_at)
{
        struct seen seen = { .cancel_at = cancel_at };
        struct err e = { 0 };
        int rc = works[i].run(p, &seen, &e);
        bool ended = cancel_at == UINT64_MAX;

        if (rc != (ended ? 0 : -ECANCELED) || seen.wrong)
                fprintf(stderr, "%s, step %lld: %s\n", works[i].name, (long long)cancel_at, e.text);
        CU_ASSERT_EQUAL(rc, ended ? 0 : -ECANCELED);
        CU_ASSERT(!seen.wrong && seen.calls >= (ended ? STEPS : cancel_at + 1));
        if (!ended) {
                CU_ASSERT_EQUAL(files_in(p->folder), 2);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "cancelled"));
        }
        unlink(p->out);
}

static void all_works(void)
{
        struct place p;

        make_place(&p);
        for (size_t i = 0; i < ARRAY_SIZE(works); i++) {
                run_one(&p, i, UINT64_MAX);
                for (uint64_t at = 0; at < STEPS; at++)
                        run_one(&p, i, at);
        }
        unlink(p.raw);
        unlink(p.image);
        CU_ASSERT(kit_gone(p.folder));
}

static const CU_TestInfo cases[] = {
        { "progress and cancelling", all_works },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-progress", cases);
}
