/* SPDX-License-Identifier: Apache-2.0 */
/* fdnote.h - what a service and its manager tell each other about descriptors.
 *
 * The text of systemd's notify datagrams as far as descriptors are concerned
 * (sd_notify(3)), and the names in $LISTEN_FDNAMES (sd_listen_fds(3)). The
 * descriptors themselves travel beside the text.
 *
 * Threads: any; pure functions.
 */
#ifndef COMMON_WIRE_FDNOTE_H
#define COMMON_WIRE_FDNOTE_H

#include <stdbool.h>
#include <stddef.h>

/* systemd's limit */
#define FDNOTE_NAME_MAX 255
/* the longest that fdnote_format() makes; what others send may be longer */
#define FDNOTE_BYTES_MAX (FDNOTE_NAME_MAX + 64)

struct fdnote {
        bool ready;                     /* READY=1: the service serves (or could) */
        bool store;                     /* FDSTORE=1: keep these under the name */
        bool remove;                    /* FDSTOREREMOVE=1: drop all of that name */
        bool start;                     /* START=1: ours, see supervise.h */
        char name[FDNOTE_NAME_MAX + 1]; /* FDNAME=; "" = none */
};

/* printable ASCII, no colon, 1 to FDNOTE_NAME_MAX characters */
bool fdnote_name_ok(const char *name, size_t bytes);

/* Length of the text, which is not terminated. */
size_t fdnote_format(const struct fdnote *note, char buf[FDNOTE_BYTES_MAX]);
/* Lines of other meaning are skipped. -EBADMSG for a bad name, or to store or
 * remove without one. */
int fdnote_parse(const char *text, size_t bytes, struct fdnote *ret);

/* The first of the names in text, and what is behind its colon; NULL at the end.
 * An unusable name comes out as "". */
const char *fdnote_next_name(const char *text, char ret[FDNOTE_NAME_MAX + 1]);

#endif
