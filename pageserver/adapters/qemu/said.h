/* SPDX-License-Identifier: Apache-2.0 */
/* said.h - the content of a status file: JSON on one line, and back.
 *
 * Threads: pure functions. What is parsed is untrusted: whoever may write to the folder
 * may have written it, and it goes to terminals.
 * Errors:  -EBADMSG and a sentence.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_SAID_H
#define PAGESERVER_ADAPTERS_QEMU_SAID_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/status.h"
#include "qcowstore/store.h"

#define SAID_VERSION 1
/* a path and a sentence, each character escaped */
#define SAID_BYTES_MAX (64u << 10)

struct said {
        enum status_state state;
        uint64_t pid;
        uint64_t bytes;                 /* of the stream, so far */
        char tag[QS_TAG_MAX + 1];       /* "" = none was given */
        char error[ERR_TEXT_MAX];       /* FAILED: why */
};

/* image: only for people who read the file. NULL without memory. */
struct json_object *said_encode(const struct said *s, const char *image);
int said_parse(const char *text, size_t bytes, struct said *ret, struct err *e);
/* "reading", "writing", "failed" */
const char *said_name(enum status_state state);

#endif
