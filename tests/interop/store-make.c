/* SPDX-License-Identifier: Apache-2.0 */
/* store-make - images with given parameters, for tests and fuzz corpora.
 *
 *   store-make import [-a] [-f] [-b PARENT] RAW IMAGE CLUSTER_BITS none|zstd [TAG]
 *   store-make draft [-a] [-f] [-b PARENT] EARLIER RAW IMAGE CLUSTER_BITS none|zstd [TAG]
 *                                   RAM of EARLIER is taken first, then RAW where it differs
 *   store-make heir [-a] [-f] [-b PARENT] FROM RAW IMAGE CLUSTER_BITS none|zstd [TAG]
 *                                   pages as in the image FROM are said to be its
 *   store-make rewrite [-f] [-b PARENT] IMAGE CLUSTER_BITS none|zstd
 *   store-make export IMAGE RAW [TAG [PASSPHRASE]]
 *   store-make check IMAGE          contents too; status 2 with findings
 *   store-make list IMAGE
 *   store-make delete IMAGE TAG
 *   store-make compact IMAGE
 *   store-make optimize IMAGE CLUSTER_BITS none|zstd
 *   store-make holds IMAGE [TAG RAW]...     these tags and no others, with these
 *                                   bytes, and check finds nothing; else status 2
 *   store-make keep IMAGE RAW [TAG] opens it, says "open", and exports when its
 *                                   standard input ends
 *   store-make ram SEED BYTES RAW   guest-like memory: zeros, text, noise
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/err.h"
#include "common/io.h"
#include "qcowstore/store.h"
#include "tests/interop/store-heir.h"
#include "tests/unit/store-ram.h"

/* -a, -f and -b; returns how many words they are */
static int take_options(int argc, char **argv, struct qs_writer_options *o)
{
        int n = 0;

        for (; n < argc && (strcmp(argv[n], "-f") == 0 || strcmp(argv[n], "-a") == 0); n++) {
                o->force |= argv[n][1] == 'f';
                o->append |= argv[n][1] == 'a';
        }
        if (n + 1 < argc && strcmp(argv[n], "-b") == 0) {
                o->backing = argv[n + 1];
                n += 2;
        }
        return n;
}

static void take_format(char **argv, struct qs_writer_options *o)
{
        o->cluster_bits = (unsigned)atoi(argv[0]);
        o->compress = strcmp(argv[1], "zstd") == 0 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE;
}

static int rewrite(int argc, char **argv, struct err *e)
{
        struct qs_writer_options o = { .zstd_level = 1 };
        int n = take_options(argc, argv, &o);
        struct qs_image *image;

        if (argc - n < 3)
                return err_msg(e, EINVAL, "rewrite needs IMAGE CLUSTER_BITS none|zstd");
        argv += n;
        take_format(argv + 1, &o);

        int rc = qs_image_open_path(argv[0], NULL, &image, e);

        if (rc < 0)
                return rc;
        rc = qs_rewrite_in_place(image, &o, NULL, NULL, NULL, e);
        qs_image_close(image);
        return rc;
}

static int import(int argc, char **argv, struct err *e)
{
        struct qs_writer_options o = { .zstd_level = 1 };
        int n = take_options(argc, argv, &o);

        argc -= n;
        argv += n;
        if (argc < 4)
                return err_msg(e, EINVAL, "import needs RAW IMAGE CLUSTER_BITS none|zstd");
        take_format(argv + 2, &o);
        if (argc > 4)
                snprintf(o.tag, sizeof(o.tag), "%s", argv[4]);
        return qs_import(argv[0], argv[1], &o, NULL, NULL, NULL, e);
}

/* RAM that changes while it is taken; both are `bytes` long. */
struct draft {
        struct qs_writer *w;
        uint64_t bytes;
        uint8_t *have;
        uint8_t *give;
        bool again;
};

static const void *draft_span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                              struct err *e)
{
        const struct draft *d = ctx;

        (void)ret;
        if (!d->again)
                return d->have + gpa;
        if (qs_writer_read_back(d->w, gpa, bytes, buf, e) < 0)
                return NULL;
        if (memcmp(buf, d->have + gpa, bytes) != 0)
                return err_msg(e, EIO, "what is read back is not what was taken"), NULL;
        return memcpy(buf, d->give + gpa, bytes);
}

static int draft_take(struct draft *d, struct err *e)
{
        const struct qs_ram_range all = { 0, d->bytes };
        const struct qs_ram_source source = { .span = draft_span, .ctx = d };
        AUTO_FREE struct qs_ram_range *changed = calloc(d->bytes / 4096, sizeof(*changed));
        size_t n = 0;

        if (!changed)
                return err_set(e, ENOMEM, "compare");
        for (uint64_t at = 0; at < d->bytes; at += 4096) {
                if (memcmp(d->have + at, d->give + at, 4096) != 0)
                        changed[n++] = (struct qs_ram_range){ at, 4096 };
        }

        int rc = qs_writer_ram(d->w, &all, 1, &source, NULL, NULL, e);

        d->again = true;
        return rc < 0 ? rc : qs_writer_again(d->w, changed, n, &source, NULL, NULL, e);
}

/* whole pages, in a buffer of which the rest is zero; bytes 0 = as long as it is */
static int load(const char *path, uint64_t *bytes, uint8_t **ret, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open '%s'", path);
        if (*bytes == 0)
                *bytes = ALIGN_UP((uint64_t)st.st_size, 4096);
        *ret = calloc(1, *bytes + 1);
        if (!*ret)
                return err_set(e, ENOMEM, "read '%s'", path);

        int rc = io_pread_full(fd, *ret, MIN(*bytes, (uint64_t)st.st_size), 0);

        return rc < 0 ? err_set(e, -rc, "read '%s'", path) : 0;
}

static int draft(int argc, char **argv, struct err *e)
{
        struct qs_writer_options o = { .zstd_level = 1 };
        struct draft d = { .bytes = 0 };
        int n = take_options(argc, argv, &o);

        argc -= n;
        argv += n;
        if (argc < 5)
                return err_msg(e, EINVAL, "draft needs EARLIER RAW IMAGE CLUSTER_BITS none|zstd");
        take_format(argv + 3, &o);
        if (argc > 5)
                snprintf(o.tag, sizeof(o.tag), "%s", argv[5]);

        int rc = load(argv[1], &d.bytes, &d.give, e);

        if (rc == 0)
                rc = load(argv[0], &d.bytes, &d.have, e);
        o.disk_bytes = d.bytes;
        if (rc == 0)
                rc = qs_writer_new(argv[2], &o, &d.w, e);
        if (rc == 0)
                rc = draft_take(&d, e);
        if (rc == 0)
                rc = qs_writer_publish(d.w, e);
        qs_writer_free(d.w);
        free(d.have);
        free(d.give);
        return rc;
}

static int heir(int argc, char **argv, struct err *e)
{
        struct qs_writer_options o = { .zstd_level = 1 };
        int n = take_options(argc, argv, &o);
        AUTO_FREE uint8_t *ram = NULL;
        struct qs_image *image;

        argv += n;
        if (argc - n < 5)
                return err_msg(e, EINVAL, "heir needs FROM RAW IMAGE CLUSTER_BITS none|zstd");
        take_format(argv + 3, &o);
        if (argc - n > 5)
                snprintf(o.tag, sizeof(o.tag), "%s", argv[5]);

        int rc = qs_image_open_path(argv[0], NULL, &image, e);

        if (rc < 0)
                return rc;
        rc = load(argv[1], &o.disk_bytes, &ram, e);
        if (rc == 0)
                rc = store_heir_save(argv[2], &o, image, ram, e);
        qs_image_close(image);
        return rc;
}

static int export(int argc, char **argv, struct err *e)
{
        struct qs_image *image;

        if (argc < 2)
                return err_msg(e, EINVAL, "export needs IMAGE RAW");

        const struct qs_open_options o = {
                .tag = argc > 2 && argv[2][0] ? argv[2] : NULL,
                .passphrase = argc > 3 ? argv[3] : NULL,
        };
        int rc = qs_image_open_path(argv[0], &o, &image, e);

        if (rc < 0)
                return rc;
        rc = qs_export(image, argv[1], false, NULL, NULL, e);
        qs_image_close(image);
        return rc;
}

static void say(void *ctx, const char *text)
{
        (void)ctx;
        puts(text);
}

static int check(int argc, char **argv, struct err *e)
{
        struct qs_check_report report;

        if (argc < 1)
                return err_msg(e, EINVAL, "check needs IMAGE");

        AUTO_FD fd = open(argv[0], O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", argv[0]);

        int rc = qs_check(fd, argv[0], true, say, NULL, NULL, NULL, &report, e);

        if (rc == 0 && report.changed)
                puts("changed by another program");
        return rc < 0 ? rc : report.corruptions + report.leaks ? 2 : 0;
}

static int snapshots(const char *path, struct qs_snapshot_info **ret, size_t *ret_n,
                     struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd < 0 ? err_set(e, errno, "open '%s'", path)
                      : qs_snapshot_list(fd, path, ret, ret_n, e);
}

static int list(int argc, char **argv, struct err *e)
{
        struct qs_snapshot_info *info;
        size_t n;

        if (argc < 1)
                return err_msg(e, EINVAL, "list needs IMAGE");

        int rc = snapshots(argv[0], &info, &n, e);

        if (rc < 0)
                return rc;
        for (size_t i = 0; i < n; i++)
                printf("%s %s%s\n", info[i].id, info[i].tag, info[i].is_default ? " *" : "");
        free(info);
        return 0;
}

static int delete(int argc, char **argv, struct err *e)
{
        if (argc < 2)
                return err_msg(e, EINVAL, "delete needs IMAGE TAG");
        return qs_snapshot_delete(argv[0], argv[1], e);
}

static int compact(int argc, char **argv, struct err *e)
{
        struct qs_writer_stats stats;

        if (argc < 1)
                return err_msg(e, EINVAL, "compact needs IMAGE");
        return qs_compact(argv[0], NULL, NULL, &stats, e);
}

static int optimize(int argc, char **argv, struct err *e)
{
        struct qs_writer_options o = { .zstd_level = 1 };
        struct qs_writer_stats stats;

        if (argc < 3)
                return err_msg(e, EINVAL, "optimize needs IMAGE CLUSTER_BITS none|zstd");
        take_format(argv + 1, &o);
        return qs_optimize(argv[0], &o, NULL, NULL, &stats, e);
}

/* 2 when another byte is found or another size, but for the last page's rest */
static int compare_tag(const char *path, const char *tag, const char *raw, struct err *e)
{
        const struct qs_open_options o = { .tag = tag };
        struct qs_reader *r = NULL;
        struct qs_image *m = NULL;
        FILE *f = fopen(raw, "rb");
        uint8_t want[4096], got[4096];
        uint64_t at = 0;
        int rc = f ? qs_image_open_path(path, &o, &m, e) : err_set(e, errno, "open '%s'", raw);

        if (rc == 0)
                rc = qs_reader_new(m, &r, e);
        for (size_t n = 1; rc == 0 && n > 0; at += n) {
                bool zero = false;

                memset(want, 0, sizeof(want));
                n = fread(want, 1, sizeof(want), f);
                if (n)
                        rc = qs_span_read(r, at, sizeof(got), got, &zero, e);
                if (zero)
                        memset(got, 0, sizeof(got));
                if (rc == 0 && n && memcmp(want, got, sizeof(got)) != 0)
                        rc = 2;
        }
        if (rc == 0 && qs_image_info(m)->disk_bytes != (at + 4095) / 4096 * 4096)
                rc = 2;
        if (rc == 2)
                printf("snapshot '%s' is not '%s'\n", tag, raw);
        qs_reader_free(r);
        qs_image_close(m);
        if (f)
                fclose(f);
        return rc;
}

static int holds(int argc, char **argv, struct err *e)
{
        struct qs_snapshot_info *info;
        size_t n;

        if (argc < 1)
                return err_msg(e, EINVAL, "holds needs IMAGE");

        int rc = snapshots(argv[0], &info, &n, e);

        if (rc < 0)
                return rc;
        free(info);
        if (n != (size_t)(argc - 1) / 2) {
                printf("%zu snapshots\n", n);
                return 2;
        }
        for (int i = 1; rc == 0 && i + 1 < argc; i += 2)
                rc = compare_tag(argv[0], argv[i], argv[i + 1], e);
        return rc ? rc : check(argc, argv, e);
}

static int keep(int argc, char **argv, struct err *e)
{
        struct qs_image *image;

        if (argc < 2)
                return err_msg(e, EINVAL, "keep needs IMAGE RAW");

        const struct qs_open_options o = { .tag = argc > 2 ? argv[2] : NULL };
        int rc = qs_image_open_path(argv[0], &o, &image, e);

        if (rc < 0)
                return rc;
        puts("open");
        fflush(stdout);
        while (getchar() != EOF)
                ;
        rc = qs_export(image, argv[1], true, NULL, NULL, e);
        qs_image_close(image);
        return rc;
}

/* prints the first page of the working set, or sets it to one page */
static int workset(int argc, char **argv, struct err *e)
{
        struct qs_image *image;
        struct qs_ram_range *set = NULL;
        size_t n;

        if (argc < 2)
                return err_msg(e, EINVAL, "workset needs IMAGE TAG [PAGE]");
        if (argc > 2) {
                struct qs_ram_range one = { strtoull(argv[2], NULL, 0) * 4096, 4096 };

                return qs_working_set_put(argv[0], argv[1], NULL, &one, 1, e);
        }

        const struct qs_open_options o = { .tag = argv[1] };
        int rc = qs_image_open_path(argv[0], &o, &image, e);

        if (rc < 0)
                return rc;
        rc = qs_working_set_read(image, &set, &n, e);
        qs_image_close(image);
        if (rc == 0)
                printf("%llu\n", (unsigned long long)set[0].gpa / 4096);
        else if (rc == -ENOENT)
                puts("none");
        free(set);
        return rc == -ENOENT ? 0 : rc;
}

static int ram(int argc, char **argv, struct err *e)
{
        if (argc < 3)
                return err_msg(e, EINVAL, "ram needs SEED BYTES RAW");

        size_t bytes = strtoull(argv[1], NULL, 0);
        AUTO_FREE uint8_t *p = calloc(1, bytes + 1);
        FILE *f = fopen(argv[2], "wb");

        if (!p || !f)
                return err_set(e, errno, "write '%s'", argv[2]);
        store_ram_fill(p, bytes, strtoull(argv[0], NULL, 0));

        size_t done = fwrite(p, 1, bytes, f);

        return fclose(f) == 0 && done == bytes ? 0 : err_set(e, EIO, "write '%s'", argv[2]);
}

static const struct command {
        const char *name;
        int (*run)(int argc, char **argv, struct err *e);
} commands[] = {
        { "import", import },   { "draft", draft },       { "heir", heir },
        { "export", export },   { "check", check },
        { "list", list },       { "delete", delete },     { "compact", compact },
        { "holds", holds },     { "optimize", optimize }, { "keep", keep },
        { "ram", ram },         { "rewrite", rewrite },   { "workset", workset },
};

int main(int argc, char **argv)
{
        struct err e = { 0 };

        for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++) {
                if (strcmp(argv[1], commands[i].name) != 0)
                        continue;

                int rc = commands[i].run(argc - 2, argv + 2, &e);

                if (rc < 0)
                        err_print("store-make", &e);
                return rc < 0 ? 1 : rc;
        }
        fprintf(stderr, "usage: store-make import|export|check|list|holds|ram ...\n");
        return 1;
}
