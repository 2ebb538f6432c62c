/* SPDX-License-Identifier: Apache-2.0 */
/* pageserver-path.h - which pageserver program a private server is started from. */
#ifndef VMM_PAGESERVER_PATH_H
#define VMM_PAGESERVER_PATH_H

#include <stddef.h>

#include "common/err.h"

/* $SNAPBACK_PAGESERVER, else the one beside our own program (a build tree),
 * else the installed one. Absolute. */
int pageserver_path(char *buf, size_t room, struct err *e);

#endif
