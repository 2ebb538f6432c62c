/* SPDX-License-Identifier: Apache-2.0 */
/* utf8.h - file names of others as text that may be put into JSON and the like.
 *
 * A file name is any bytes; JSON and Prometheus are UTF-8, and one bad byte makes
 * their readers refuse all of it.
 */
#ifndef COMMON_UTF8_H
#define COMMON_UTF8_H

#include <stddef.h>

/* Copies text, cut to room - 1 bytes; each byte that is no part of a well-formed
 * character becomes '?'. A character is not cut in two. Returns ret. */
char *utf8_mend(const char *text, char *ret, size_t room);

#endif
