/* SPDX-License-Identifier: Apache-2.0 */
/* source.h - one open image with a reader for each worker.
 *
 * Threads: open and close by the main thread, close when no worker uses it any
 *          more; source_reader(i) only by worker i.
 */
#ifndef PAGESERVER_SOURCE_H
#define PAGESERVER_SOURCE_H

#include "common/err.h"
#include "pageserver/fillmap.h"
#include "qcowstore/store.h"

struct source;

/* tag "" = default */
int source_open(int fd, const char *path, const char *tag, unsigned workers,
                struct source **ret, struct err *e);
void source_close(struct source *source);

const struct qs_image_info *source_info(const struct source *source);
/* whole clusters, the last one rounded up */
struct fillmap_ident source_ident(const struct source *source);
/* made at the worker's first call */
int source_reader(struct source *source, unsigned worker, struct qs_reader **ret, struct err *e);

#endif
