/* SPDX-License-Identifier: Apache-2.0 */
/* heritage.h - RAM that a source has not because it is as it was in the image that its
 * guest came from, and the cheapest way to have it in the file.
 *
 * Theory of operation
 *
 * One way is settled on before RAM is taken, from what the file and that image are to
 * each other:
 *
 *   ZERO  there is no such image: zeros
 *   SAME  the file is a delta, and the image is its parent or a parent of that: nothing
 *         is stored of clusters that no layer above the image has anything of. Of its
 *         direct parent not even a table is looked at
 *   LINK  the file has the image as a snapshot: an entry is all that it takes
 *   COPY  a new file of the same make: streams are copied as they are
 *   READ  any other: what is read is as good as what a source brings
 *
 * Then each cluster that is the image's as a whole has its fate, which the image's
 * tables tell; where the way does not fit the cluster, its bytes are needed.
 *
 * COPY and SAME take over the image's hash seed, so that CHECKSUMS of the one holds for
 * the other; a chain of deltas has one seed then, and streams of all of it can be copied.
 * What dedup knows a copied stream by is its place (layer and entry), as in clone.h:
 * its content is not seen. So it is not found to be equal to content that came otherwise.
 *
 * INV-VERIFIED holds for what is read and copied. What is linked gets no sum but those
 *              that it had.
 * INV-COUNT holds for what is linked too, though dedup is not asked: a snapshot adds at
 *              most what the image has there, and a host cluster with as many references
 *              as one content may have is not linked to but read.
 *
 * Ownership: borrows all of it.
 * Threads:   struct heritage is constant while threads run, each of which has an heir.
 * Errors:    sentences that name the image and the address.
 */
#ifndef QCOWSTORE_HERITAGE_H
#define QCOWSTORE_HERITAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "qcowstore/chunk.h"
#include "qcowstore/clone.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/writer-priv.h"

enum heritage_way {
        HERITAGE_ZERO, HERITAGE_SAME, HERITAGE_LINK, HERITAGE_COPY, HERITAGE_READ,
};

struct heritage {
        enum heritage_way way;
        const struct qs_writer *w;
        struct qs_image *image;         /* NULL = ZERO */
        const struct qs_image *kin;     /* SAME: which of the delta's layers it is */
};

/* What becomes of a cluster.
 * LOOK and DENSE need its bytes; DENSE: they are known not to shrink. */
enum heir_fate { HEIR_LOOK, HEIR_DENSE, HEIR_ZERO, HEIR_SAME, HEIR_LINK, HEIR_COPY };

struct heir {
        const struct heritage *of;
        struct qs_reader *reader;       /* NULL = not needed yet */
        struct clone_window window;     /* bytes NULL = neither */
};

/* Before anything depends on the writer's seed. again: of RAM that is taken again, where
 * all is read. */
void heritage_init(struct heritage *h, struct qs_writer *w, struct qs_image *image, bool again);
/* The delta's parent is the very image: what it has is the same in both. */
bool heritage_is_base(const struct heritage *h);

void heir_init(struct heir *r, const struct heritage *h);
void heir_fini(struct heir *r);
/* of a cluster that is the image's as a whole */
int heir_fate(struct heir *r, uint64_t gpa, enum heir_fate *ret, struct err *e);
/* Cluster i of the chunk, by a fate that needs no bytes. */
int heir_put(struct heir *r, struct chunk *c, unsigned i, enum heir_fate fate, struct err *e);
/* Pages of the image. */
int heir_read(struct heir *r, uint64_t gpa, size_t bytes, void *to, struct err *e);

#endif
