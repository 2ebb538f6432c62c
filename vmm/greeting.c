/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/greeting.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "vmm/ram.h"

int greeting_init(struct greeting *g, const struct qs_image *image, const char *image_path,
                  bool hugepages, struct err *e)
{
        *g = (struct greeting){
                .hugepages = hugepages, .cache_fd = -1, .filled_fd = -1, .map_fd = -1,
        };

        int rc = image_files_keep(&g->files, image, e);

        if (rc < 0)
                return rc;
        g->image_path = strdup(image_path);
        /* not "the default", which may be another one by the time a server is replaced */
        g->tag = strdup(qs_image_info(image)->tag);
        return g->image_path && g->tag ? 0 : err_msg(e, ENOMEM, "no memory for the pager");
}

void greeting_fini(struct greeting *g)
{
        image_files_close(&g->files);
        fd_close(&g->cache_fd);
        fd_close(&g->filled_fd);
        fd_close(&g->map_fd);
        free(g->image_path);
        free(g->tag);
}

int greeting_say(const struct greeting *g, struct ps_client *client,
                 const struct greeting_wish *wish, struct ps_welcome *ret, struct err *e)
{
        bool copy = wish->lane == PS_LANE_COPY;
        const struct ps_hello h = {
                .image_fds = g->files.fds, .nimages = g->files.n,
                .image_path = g->image_path, .tag = g->tag,
                .lane = wish->lane, .prefetch_rate = wish->prefetch_rate,
                .hold_percent = wish->hold_percent, .record = wish->record,
                .page_bytes = g->hugepages ? RAM_HUGE_BYTES : 0,
                .cache_fd = copy ? -1 : g->cache_fd,
                .filled_fd = copy ? -1 : g->filled_fd,
                .map_fd = copy ? -1 : g->map_fd, .removed_fd = -1,
        };

        return ps_client_hello(client, &h, ret, e);
}
