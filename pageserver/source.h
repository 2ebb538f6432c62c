/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - one open image with a reader for each worker.
 *
 * Threads: open and close by one thread at a time, close when no worker uses it any
 *          more; source_reader(i) only by thread i.
 */
#ifndef PAGESERVER_SOURCE_H
#define PAGESERVER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "pageserver/fillmap.h"
#include "qcowstore/store.h"

struct source;

/* What to open: the files of a chain, the image first. No name in them is followed. */
struct source_files {
        const int *fds;
        size_t n;
        const char *path;
        const char *tag;                /* "" = default */
};

int source_open(const struct source_files *files, unsigned workers, struct source **ret,
                struct err *e);
/* Of an image that is open already; it is taken, also on failure. */
int source_new(struct qs_image *image, const char *path, unsigned workers,
               struct source **ret, struct err *e);
void source_close(struct source *source);
/* The same, but a file system that does not answer holds nobody up (errand.h); host: NULL =
 * it may. */
struct session_host;
void source_let_go(struct source *source, struct session_host *host);

const struct qs_image_info *source_info(const struct source *source);
/* as who opened it first called it */
const char *source_path(const struct source *source);
/* the same snapshots of the same files */
bool source_same(const struct source *a, const struct source *b);
/* whole clusters, the last one rounded up */
struct fillmap_ident source_ident(const struct source *source);
/* What the snapshot's guest wants first, as the file says now; by whoever opened it. The
 * caller frees *ret; -ENOENT = it says nothing. */
int source_working_set(struct source *source, struct qs_ram_range **ret, size_t *ret_n,
                       struct err *e);
/* made at the worker's first call */
int source_reader(struct source *source, unsigned worker, struct qs_reader **ret, struct err *e);

#endif
