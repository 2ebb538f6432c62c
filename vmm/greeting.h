/* SPDX-License-Identifier: Apache-2.0 */
/* greeting.h - what a VM tells each page server that it meets: which image, how its
 * RAM is made, and what is left of an earlier server's work.
 *
 * Threads: one at a time.
 * Errors:  0 or negative errno with a sentence.
 */
#ifndef VMM_GREETING_H
#define VMM_GREETING_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "pageserver/client.h"
#include "qcowstore/store.h"
#include "vmm/image-files.h"

struct greeting {
        struct image_files files;
        char *image_path;
        char *tag;
        bool hugepages;                 /* RAM is of hugetlbfs */
        /* for the shared lane; -1 = there is none */
        int cache_fd;                   /* of a private server */
        int filled_fd;
        int map_fd;                     /* of a daemon: what RAM is mapped from */
};

/* Files and tag are taken from the image. greeting_fini() also on failure. */
int greeting_init(struct greeting *g, const struct qs_image *image, const char *image_path,
                  bool hugepages, struct err *e);
void greeting_fini(struct greeting *g);

struct greeting_wish {
        enum ps_lane lane;
        unsigned hold_percent;
        uint64_t prefetch_rate;
        bool record;
};

/* The descriptors in *ret, which starts as WELCOME_NONE, are the caller's, also on failure. */
#define WELCOME_NONE { .map_fd = -1, .cache_fd = -1, .filled_fd = -1, .removed_fd = -1 }
int greeting_say(const struct greeting *g, struct ps_client *client,
                 const struct greeting_wish *wish, struct ps_welcome *ret, struct err *e);

#endif
