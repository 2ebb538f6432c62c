/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the command line of qemu-snapshot.
 *
 * To add an option: a row of each table in options.c, its line of --help, its words in
 * qemu-snapshot(1) and contrib/completion/qemu-snapshot.bash.
 */
#ifndef PAGESERVER_ADAPTERS_QEMU_OPTIONS_H
#define PAGESERVER_ADAPTERS_QEMU_OPTIONS_H

#include <stdbool.h>

#include "common/err.h"
#include "pageserver/adapters/qemu/revert.h"
#include "pageserver/adapters/qemu/save.h"
#include "pageserver/adapters/qemu/transport.h"

enum mode { MODE_SAVE, MODE_REVERT, MODE_IMPORT, MODE_EXPORT, MODE_STATUS, MODE_WAIT };

struct command {
        enum mode mode;
        const char *image;
        const char *stream;             /* of IMPORT and EXPORT */
        const char *tag;                /* as it was said; NULL = not */
        struct save_options save;       /* SAVE, IMPORT; of EXPORT writer.force */
        struct revert_options revert;   /* REVERT; of EXPORT open */
        struct transport_options transport;
        bool json;
};

enum options {
        OPTIONS_RUN,
        OPTIONS_ANSWERED,               /* --help, --version: nothing is to be done */
        OPTIONS_WRONG,                  /* the err says what */
};

/* Texts in *ret point into argv. */
enum options options_take(int argc, char **argv, struct command *ret, struct err *e);

/* Of a command line that may be wrong: does QEMU wait for a stream of it, and where?
 * True only where nobody has to connect first, and not of a recovery: a QEMU that
 * recovers needs no byte to be told. */
bool options_revert_of(int argc, char **argv, struct transport_options *ret);
/* The same of one that sends a stream to be saved. */
bool options_save_of(int argc, char **argv, struct transport_options *ret);

#endif
