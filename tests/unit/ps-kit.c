/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/ps-kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"

int kit_image(uint64_t seed)
{
        struct fake_image image = {
                .seed = seed, .disk_bytes = KIT_BYTES, .cluster_bits = KIT_CLUSTER_BITS,
        };

        return fake_image_file(&image);
}

static struct source *open_image(int image_fd)
{
        const struct source_files files = { .fds = &image_fd, .n = 1, .path = "fake", .tag = "" };
        struct source *source;
        int rc = source_open(&files, 1, &source, NULL);

        ASSERT(rc == 0);
        return source;
}

int kit_get(struct cache_list *list, int image_fd, struct cache **ret)
{
        struct source *own = open_image(image_fd);
        int rc = cache_get(list, KIT_UID, &own, ret, NULL);

        ASSERT((rc < 0) == (own != NULL));
        source_close(own);
        return rc;
}

int kit_rejoin(struct cache_list *list, int image_fd, uid_t uid, int map_fd, struct cache **ret)
{
        struct source *own = open_image(image_fd);
        int rc = cache_rejoin(list, uid, &own, map_fd, ret, NULL);

        ASSERT((rc < 0) == (own != NULL));
        source_close(own);
        return rc;
}

static void not_called(void *waiter, uint64_t cluster)
{
        (void)waiter;
        (void)cluster;
        ASSERT(!"nobody waits");
}

void kit_fill(struct cache *c, unsigned n)
{
        static char cluster[1 << KIT_CLUSTER_BITS];

        memset(cluster, 0x5a, sizeof(cluster));
        for (unsigned i = 0; i < n; i++) {
                ssize_t done = pwrite(cache_fd(c), cluster, sizeof(cluster),
                                      (off_t)i << KIT_CLUSTER_BITS);
                enum claim claim = fillmap_claim(cache_map(c), i, NULL);

                ASSERT(done == sizeof(cluster) && claim == CLAIM_WON);
                fillmap_finish(cache_map(c), i, true, not_called);
        }
}

void kit_need_caches(void)
{
        struct cache_list list = { .first = NULL };
        struct cache *c = NULL;
        int image = kit_image(1);
        int rc = kit_get(&list, image, &c);

        close(image);
        if (rc == -ENOTSUP) {
                printf("skipped: this host backs shared memory with huge pages\n");
                exit(77);
        }
        ASSERT(rc == 0);
        cache_put(&list, c);
}
