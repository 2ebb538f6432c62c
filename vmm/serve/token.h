/* SPDX-License-Identifier: Apache-2.0 */
/* token.h - the secret that a client of the TCP door shows.
 *
 * Plain value. Threads: any, after it was read.
 */
#ifndef VMM_SERVE_TOKEN_H
#define VMM_SERVE_TOKEN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/* shorter ones can be tried out */
#define TOKEN_BYTES_MIN 16
#define TOKEN_BYTES_MAX 512

struct token {
        size_t bytes;
        char text[TOKEN_BYTES_MAX + 1];
};

/* One line of a file that is ours and nobody else can read: mode 0600 or less. */
int token_read(const char *path, struct token *ret, struct err *e);
/* What a file holds: printable, no blanks, a newline may be behind it. */
int token_parse(const char *text, size_t bytes, struct token *ret, struct err *e);
/* header: of "Authorization:", untrusted; NULL = none. The time that it takes says nothing
 * of the token but its length. */
bool token_shown(const struct token *token, const char *header);

#endif
