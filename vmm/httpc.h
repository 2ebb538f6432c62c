/* SPDX-License-Identifier: Apache-2.0 */
/* httpc.h - one HTTP/JSON request to a VM's control socket.
 *
 * What the VM sends is untrusted: its size is limited, and it is JSON or an error.
 *
 * libcurl is loaded when first used, not linked: its some thirty shared
 * libraries would cost every revert more than all of our own work.
 * Threads: any, one request at a time per thread.
 */
#ifndef VMM_HTTPC_H
#define VMM_HTTPC_H

#include <json-c/json.h>

#include "common/err.h"

/* Sends `method path` with body (NULL = none) to the VM of that name and waits
 * for the answer, however long the action takes. An answer other than 2xx is
 * an error with the sentence the VM gave. *ret (may be NULL) is the parsed
 * body, NULL when there was none; the caller puts it. */
int httpc_request(const char *vm_name, const char *method, const char *path,
                  struct json_object *body, struct json_object **ret, struct err *e);

/* One of several lines of an answer, borrowed, as soon as it has come. */
typedef void httpc_line_fn(void *ctx, struct json_object *line);

/* The same where the answer may come in parts, a JSON object a line: on_line() gets
 * each, *ret is the last one. {"error": "sentence"} as the last one is an error too. */
int httpc_stream(const char *vm_name, const char *method, const char *path,
                 struct json_object *body, httpc_line_fn *on_line, void *ctx,
                 struct json_object **ret, struct err *e);

#endif
