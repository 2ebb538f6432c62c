/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - vmm serve: makes VMs, and passes on what is asked of them, by HTTP; vmm-api(7).
 *
 * It holds nothing of the VMs: they are found in the runtime folder (rundir.h), whoever made
 * them, and live on when it ends.
 * Threads: one.
 */
#ifndef VMM_SERVE_SERVER_H
#define VMM_SERVE_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "vmm/confine.h"
#include "vmm/prepared.h"
#include "vmm/sandbox.h"
#include "vmm/serve/token.h"

struct serve_options {
        const char *socket_path;
        const char *listen;             /* HOST:PORT; NULL = no TCP */
        const struct token *token;      /* with listen */
        unsigned rate;                  /* requests a second, at each door */
        unsigned creates_max;           /* at a time */
        unsigned create_seconds;        /* that one may take */
        unsigned vms_max;               /* 0 = as many as there is room for */
        unsigned pool_size;
        struct shape pool_shape;
        bool pool_shape_fixed;
        const char *pool_image;         /* NULL = the last one */
        enum sandbox_mode sandbox;      /* of the VMs */
        const struct confine *confine;
};

/* Until SIGTERM or SIGINT. */
int serve_run(const struct serve_options *options, struct err *e);

/* What it takes, for the tests: "GET", "/vms/{name}". NULL behind the last. */
struct serve_route {
        const char *method;
        const char *path;
};
const struct serve_route *serve_route_at(size_t i);

#endif
