/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/fcimage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/wire/fcregions.h"
#include "pageserver/errand.h"

static_assert(FC_REGIONS_MAX <= PSMSG_REGIONS_MAX, "every handshake can be attached");

/* how long its opening may take, and how often that is looked at */
#define OPEN_NS (10 * NS_PER_SEC)
#define LOOK_NS NS_PER_MS

struct fcimage {
        unsigned readers;
        char *path;
        struct source *source;
        struct qs_ram_range *set;       /* NULL = it does not say what is wanted first */
        size_t set_n;
        int rc;                         /* of opening it, and why */
        struct err err;
        bool has_table;
        struct fc_regions table;
};

static uint64_t end_gpa(const struct fc_regions *r)
{
        return r->at[r->n - 1].gpa + r->at[r->n - 1].bytes;
}

static uint64_t disk_bytes(const struct fcimage *im)
{
        return source_info(im->source)->disk_bytes;
}

/* ---- opening ------------------------------------------------------------- */

static int read_section(struct fcimage *im, struct qs_reader *reader, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(reader, FC_SECTION_REGIONS, &data, &bytes, e);

        if (rc == -ENOENT)
                return 0;
        if (rc == 0)
                rc = fc_regions_decode(data, bytes, &im->table, e);
        if (rc < 0)
                return rc;
        im->has_table = true;
        return 0;
}

static int read_table(struct fcimage *im, struct qs_image *image, struct err *e)
{
        struct qs_reader *reader;
        int rc = qs_reader_new(image, &reader, e);

        if (rc < 0)
                return rc;
        rc = read_section(im, reader, e);
        qs_reader_free(reader);
        if (rc == 0 && im->has_table && end_gpa(&im->table) > qs_image_info(image)->disk_bytes)
                rc = err_msg(e, EBADMSG, "its section " FC_SECTION_REGIONS
                             " tells of memory behind its end");
        return rc;
}

static int open_source(struct fcimage *im, struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_path(im->path, NULL, &image, e);

        if (rc < 0)
                return rc;
        rc = read_table(im, image, e);
        if (rc < 0) {
                qs_image_close(image);
                return err_in(e, rc, "image '%s'", im->path);
        }
        rc = source_new(image, im->path, im->readers, &im->source, e);
        /* its guests get all that they need without it, too */
        if (rc == 0)
                (void)source_working_set(im->source, &im->set, &im->set_n, NULL);
        return rc;
}

static void free_it(struct fcimage *im)
{
        free(im->set);
        free(im->path);
        free(im);
}

static void run(void *arg)
{
        struct fcimage *im = arg;

        im->rc = open_source(im, &im->err);
}

static void drop(void *arg)
{
        struct fcimage *im = arg;

        source_close(im->source);
        free_it(im);
}

static int await(struct errand **errand, const char *path, struct err *e)
{
        const struct timespec moment = { .tv_nsec = LOOK_NS };
        uint64_t end_ns = clock_now_ns() + OPEN_NS;

        while (!errand_finish(errand)) {
                if (clock_now_ns() >= end_ns) {
                        errand_give_up(errand);
                        return err_msg(e, ETIMEDOUT, "image '%s' does not open: its file system "
                                       "does not answer", path);
                }
                nanosleep(&moment, NULL);
        }
        return 0;
}

static int open_within(struct session_host *host, struct fcimage *im, const char *path,
                       struct err *e)
{
        static const struct errand_ops opening = { .run = run, .drop = drop };
        struct errand *errand;
        int rc = errand_start(host, &opening, im, &errand, e);

        if (rc < 0) {
                free_it(im);
                return rc;
        }
        return await(&errand, path, e);
}

int fcimage_open(struct session_host *host, const char *path, struct fcimage **ret,
                 struct err *e)
{
        struct fcimage *im = calloc(1, sizeof(*im));

        if (!im || !(im->path = strdup(path))) {
                free(im);
                return err_set(e, ENOMEM, "image '%s'", path);
        }
        im->readers = host->hands;

        int rc = open_within(host, im, path, e);

        if (rc < 0)
                return rc;
        if (im->rc < 0) {
                rc = im->rc;
                if (e)
                        *e = im->err;
                drop(im);
                return rc;
        }
        *ret = im;
        return 0;
}

void fcimage_close(struct fcimage *im, struct session_host *host)
{
        if (!im)
                return;
        source_let_go(im->source, host);
        free_it(im);
}

int fcimage_working_set(const struct fcimage *im, struct qs_ram_range **ret, size_t *ret_n)
{
        *ret = NULL;
        *ret_n = im->set_n;
        if (im->set_n == 0)
                return 0;
        *ret = calloc(im->set_n, sizeof(**ret));
        if (!*ret)
                return -ENOMEM;
        memcpy(*ret, im->set, im->set_n * sizeof(**ret));
        return 0;
}

const char *fcimage_path(const struct fcimage *im)
{
        return im->path;
}

struct source *fcimage_source(const struct fcimage *im)
{
        return im->source;
}

/* ---- placing a guest ----------------------------------------------------- */

static uint64_t sum_bytes(const struct fc_region *region, size_t n)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < n; i++)
                sum += region[i].bytes;
        return sum;
}

/* the memory file as it was: guest-physical is where it lies in the file */
static void lay_flat(const struct fc_region *region, size_t n, struct fc_regions *ret)
{
        *ret = (struct fc_regions){ .n = (uint32_t)n };
        for (size_t i = 0; i < n; i++)
                ret->at[i] = (struct fc_extent){
                        .gpa = region[i].file_offset, .bytes = region[i].bytes,
                        .file_offset = region[i].file_offset,
                };
}

static bool fits(const struct fcimage *im, const struct fc_regions *r,
                 const struct fc_region *region, size_t n)
{
        return end_gpa(r) == disk_bytes(im) && fc_regions_match(r, region, n, NULL) == 0;
}

static int guess_table(const struct fcimage *im, const struct fc_region *region, size_t n,
                       struct fc_regions *ret, struct err *e)
{
        static const enum fc_layout layouts[] = { FC_LAYOUT_V1_13, FC_LAYOUT_V1_0 };
        uint64_t bytes = sum_bytes(region, n);

        lay_flat(region, n, ret);
        if (fits(im, ret, region, n))
                return 0;
        for (size_t i = 0; i < ARRAY_SIZE(layouts); i++) {
                if (fc_regions_layout(FC_ARCH_X86_64, layouts[i], bytes, ret, NULL) == 0 &&
                    fits(im, ret, region, n))
                        return 0;
        }
        return err_msg(e, EINVAL, "%llu bytes in %zu regions, which do not make its %llu bytes "
                       "(import the snapshot with --firecracker)",
                       (unsigned long long)bytes, n, (unsigned long long)disk_bytes(im));
}

int fcimage_place(const struct fcimage *im, const struct fc_region *region, size_t n,
                  struct psmsg_attach *ret, struct err *e)
{
        struct fc_regions guess;
        const struct fc_regions *table = im->has_table ? &im->table : &guess;
        int rc = im->has_table ? fc_regions_match(table, region, n, e)
                               : guess_table(im, region, n, &guess, e);

        if (rc < 0)
                return err_in(e, rc, "its memory is not that of the image");
        ret->reattach = false;
        ret->nuffds = 1;
        ret->nregions = (unsigned)n;
        for (size_t i = 0; i < n; i++)
                ret->region[i] = (struct psmsg_region){
                        .hva = region[i].hva, .bytes = region[i].bytes, .gpa = table->at[i].gpa,
                };
        return 0;
}
