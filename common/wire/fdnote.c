/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/fdnote.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"

bool fdnote_name_ok(const char *name, size_t bytes)
{
        if (bytes == 0 || bytes > FDNOTE_NAME_MAX)
                return false;
        for (size_t i = 0; i < bytes; i++) {
                if (name[i] < ' ' || name[i] > '~' || name[i] == ':')
                        return false;
        }
        return true;
}

/* FDPOLL=0: a manager must not drop what it takes for hung up, and a userfaultfd
 * looks like that to whoever polls it. */
size_t fdnote_format(const struct fdnote *note, char buf[FDNOTE_BYTES_MAX])
{
        int n = snprintf(buf, FDNOTE_BYTES_MAX, "%s%s%s%s%s%s%s",
                         note->ready ? "READY=1\n" : "",
                         note->store ? "FDSTORE=1\nFDPOLL=0\n" : "",
                         note->remove ? "FDSTOREREMOVE=1\n" : "",
                         note->start ? "START=1\n" : "",
                         note->name[0] ? "FDNAME=" : "", note->name, note->name[0] ? "\n" : "");

        ASSERT(n > 0 && n < FDNOTE_BYTES_MAX);
        return (size_t)n;
}

static bool line_is(const char *line, size_t bytes, const char *want)
{
        return bytes == strlen(want) && memcmp(line, want, bytes) == 0;
}

static bool take_name(const char *line, size_t bytes, struct fdnote *ret)
{
        static const char key[] = "FDNAME=";
        size_t skip = sizeof(key) - 1;

        if (bytes < skip || memcmp(line, key, skip) != 0)
                return true;
        if (!fdnote_name_ok(line + skip, bytes - skip))
                return false;
        memcpy(ret->name, line + skip, bytes - skip);
        ret->name[bytes - skip] = '\0';
        return true;
}

int fdnote_parse(const char *text, size_t bytes, struct fdnote *ret)
{
        struct fdnote note = { .ready = false };

        for (size_t at = 0; at < bytes;) {
                const char *line = text + at;
                const char *end = memchr(line, '\n', bytes - at);
                size_t n = end ? (size_t)(end - line) : bytes - at;

                note.ready |= line_is(line, n, "READY=1");
                note.store |= line_is(line, n, "FDSTORE=1");
                note.remove |= line_is(line, n, "FDSTOREREMOVE=1");
                note.start |= line_is(line, n, "START=1");
                if (!take_name(line, n, &note))
                        return -EBADMSG;
                at += n + 1;
        }
        if ((note.store || note.remove) && !note.name[0])
                return -EBADMSG;
        *ret = note;
        return 0;
}

const char *fdnote_next_name(const char *text, char ret[FDNOTE_NAME_MAX + 1])
{
        size_t n = strcspn(text, ":");

        ret[0] = '\0';
        if (fdnote_name_ok(text, n)) {
                memcpy(ret, text, n);
                ret[n] = '\0';
        }
        return text[n] ? text + n + 1 : NULL;
}
