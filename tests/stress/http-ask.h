/* SPDX-License-Identifier: Apache-2.0 */
/* http-ask.h - a client of the page server's HTTP door that sends what it likes. */
#ifndef TESTS_STRESS_HTTP_ASK_H
#define TESTS_STRESS_HTTP_ASK_H

#include <stdbool.h>
#include <stddef.h>

/* address: a path, or 127.0.0.1:PORT. A descriptor, or -errno; -EAGAIN when its queue is
 * full and wait is false. What is read from it later waits 20 seconds at most. */
int http_dial(const char *address, bool wait);

/* All that comes until the end, NUL behind it; the caller's to free. NULL: nothing. */
char *http_read(int sock);

/* One request as it should be (body: NULL = none), to $HTTP_ASK_HOST if that is set. The
 * answer as a whole, or NULL. */
char *http_ask(const char *address, const char *method, const char *path, const char *body);

/* of an answer; 0 = it is none */
int http_status(const char *answer);
const char *http_body(const char *answer);

#endif
