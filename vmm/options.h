/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the options of a command as a table: name, and where its value goes.
 *
 * A flag sets a bool; a text is kept as the argument itself; all others have a
 * function that reads the argument (NULL where it is optional and missing) into
 * the command's struct. The first error ends the parsing.
 */
#ifndef VMM_OPTIONS_H
#define VMM_OPTIONS_H

#include <stddef.h>

#include "common/err.h"

/* options of one command */
#define OPTIONS_MAX 24

enum option_takes { OPTION_NOTHING, OPTION_VALUE, OPTION_MAY };

/* 0, or -EINVAL and a sentence that names the value */
typedef int option_fn(void *command, const char *value, struct err *e);

struct option_row {
        const char *name;               /* without "--"; NULL ends the table */
        enum option_takes takes;
        size_t at;                      /* in the command's struct; unless read */
        option_fn *read;
};

#define OPTION_FLAG(name, type, member) { name, OPTION_NOTHING, offsetof(type, member), NULL }
#define OPTION_TEXT(name, type, member) { name, OPTION_VALUE, offsetof(type, member), NULL }
#define OPTION_READ(name, fn)           { name, OPTION_VALUE, 0, fn }
#define OPTION_MAY_READ(name, fn)       { name, OPTION_MAY, 0, fn }
#define OPTION_END                      { NULL, OPTION_NOTHING, 0, NULL }

/* Options may stand among the operands, which begin at optind then. */
int options_parse(const char *command, const struct option_row *rows, int argc, char **argv,
                  void *o, struct err *e);

#endif
