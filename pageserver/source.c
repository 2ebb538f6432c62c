/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/wire/psmsg.h"
#include "pageserver/errand.h"

static_assert(QS_TAG_MAX < FILLMAP_TAG_BYTES, "a tag fits its filled map");
static_assert(QS_LAYERS_MAX == PSMSG_IMAGES_MAX, "the wire carries every chain");

struct source {
        /* set at the start, constant after */
        struct qs_image *image;
        char *path;
        unsigned workers;
        /* [i]: worker i only */
        struct qs_reader *reader[];
};

int source_new(struct qs_image *image, const char *path, unsigned workers,
               struct source **ret, struct err *e)
{
        struct source *s = calloc(1, sizeof(*s) + workers * sizeof(s->reader[0]));
        char *own_path = strdup(path);

        if (!s || !own_path) {
                qs_image_close(image);
                free(own_path);
                free(s);
                return err_set(e, ENOMEM, "image source");
        }
        s->image = image;
        s->path = own_path;
        s->workers = workers;
        *ret = s;
        return 0;
}

int source_open(const struct source_files *files, unsigned workers, struct source **ret,
                struct err *e)
{
        struct qs_image *image;
        int rc = qs_image_open_chain(files->fds, files->n, files->path,
                                     files->tag[0] ? files->tag : NULL, &image, e);

        return rc < 0 ? rc : source_new(image, files->path, workers, ret, e);
}

void source_close(struct source *source)
{
        if (!source)
                return;
        for (unsigned i = 0; i < source->workers; i++) {
                if (source->reader[i])
                        qs_reader_free(source->reader[i]);
        }
        qs_image_close(source->image);
        free(source->path);
        free(source);
}

static void close_it(void *source)
{
        source_close(source);
}

void source_let_go(struct source *source, struct session_host *host)
{
        static const struct errand_ops closing = { .run = close_it };

        if (source && host)
                errand_send(host, &closing, source);
        else
                source_close(source);
}

const struct qs_image_info *source_info(const struct source *source)
{
        return qs_image_info(source->image);
}

const char *source_path(const struct source *source)
{
        return source->path;
}

bool source_same(const struct source *a, const struct source *b)
{
        return qs_image_same(a->image, b->image);
}

struct fillmap_ident source_ident(const struct source *source)
{
        const struct qs_image_info *info = source_info(source);
        struct fillmap_ident ident = {
                .clusters = DIV_ROUND_UP(info->disk_bytes, 1ull << info->cluster_bits),
                .cluster_bits = info->cluster_bits,
        };

        static_assert(sizeof(ident.image) == sizeof(info->identity), "an identity fits");
        memcpy(ident.image, info->identity, sizeof(ident.image));
        snprintf(ident.tag, sizeof(ident.tag), "%s", info->tag);
        return ident;
}

int source_working_set(struct source *source, struct qs_ram_range **ret, size_t *ret_n,
                       struct err *e)
{
        return qs_working_set_read(source->image, ret, ret_n, e);
}

int source_reader(struct source *source, unsigned worker, struct qs_reader **ret, struct err *e)
{
        ASSERT(worker < source->workers);
        if (!source->reader[worker]) {
                int rc = qs_reader_new(source->image, &source->reader[worker], e);

                if (rc < 0)
                        return rc;
        }
        *ret = source->reader[worker];
        return 0;
}
