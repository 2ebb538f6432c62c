/* SPDX-License-Identifier: Apache-2.0 */
/* expect.h - what of a request to make a VM a process can get ready for, before the next one
 * like it comes: the image and how it is to be read.
 *
 * A JSON text, itself such a request (create-request.h); equal if what is to be got ready is.
 * Pure functions.
 */
#ifndef VMM_SERVE_EXPECT_H
#define VMM_SERVE_EXPECT_H

#include <json-c/json.h>

/* Heap, the caller's. NULL: nothing, as without postcopy. request: create_request_decode()
 * took it. */
char *expect_of(struct json_object *request);
/* The image's path. Heap, the caller's. */
char *expect_path(const char *expected);
/* The plainest of an image. path is absolute. */
char *expect_image(const char *path);

#endif
