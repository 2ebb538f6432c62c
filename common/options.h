/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - the options of a command as a table: name, and where its value goes.
 *
 * A flag sets a bool; a text is kept as the argument itself; all others have a
 * function that reads the argument (NULL where it is optional and missing) into
 * the command's struct. The first error ends the parsing.
 */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/* options of one command: a bit each in what was given */
#define OPTIONS_MAX 32

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

/* Options may stand among the operands, which begin at optind then. command is what
 * --help would be given to: "vmm image". *ret_given, unless NULL: bit i = row i, also
 * of those that were taken before an error. */
int options_parse(const char *command, const struct option_row *rows, int argc, char **argv,
                  void *o, uint32_t *ret_given, struct err *e);

/* getopt_long's "other" case: an unknown option or a missing argument; -EINVAL */
int option_bad(const char *command, char **argv, struct err *e);

/* A value that is a number in [min, max], as size_parse() has it; what: of what, in the
 * sentence. */
int option_number(const char *text, uint64_t min, uint64_t max, const char *what,
                  uint64_t *ret, struct err *e);

#endif
