/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>

#include "common/auto.h"
#include "vmm/pager-priv.h"
#include "vmm/program-path.h"

int pager_server_start(struct pager *p, bool is_private, struct ps_client **ret, struct err *e)
{
        char program[PATH_MAX];

        if (!is_private)
                return ps_client_connect(p->socket, ret, e);

        int rc = pageserver_path(program, sizeof(program), e);

        return rc < 0 ? rc : ps_client_spawn(program, ret, e);
}

int pager_server_hello(struct pager *p, struct ps_client *client, enum ps_lane lane,
                       unsigned hold, uint64_t prefetch_rate, struct ps_welcome *ret,
                       struct err *e)
{
        const struct greeting_wish wish = {
                .lane = lane, .hold_percent = hold, .prefetch_rate = prefetch_rate,
                .record = recording_goes_on(&p->recording),
        };

        return greeting_say(&p->greeting, client, &wish, ret, e);
}

int pager_server_attach(struct pager *p, struct ps_client *client, bool again, struct err *e)
{
        return ps_client_attach(client, p->stripes.regions, p->stripes.nregions,
                                p->stripes.uffds, p->stripes.nuffds, again, e);
}

static int try_server(struct pager *p, bool is_private, enum ps_lane lane, struct err *e)
{
        struct ps_welcome w = WELCOME_NONE;
        struct ps_client *client;
        int rc = pager_server_start(p, is_private, &client, e);

        if (rc < 0)
                return rc;
        rc = pager_server_hello(p, client, lane, 0, pace_now(&p->pace), &w, e);
        fd_close(&w.map_fd);            /* RAM stays mapped as it is */
        fd_close(&w.cache_fd);
        fd_close(&w.filled_fd);
        if (rc == 0)
                rc = pager_server_attach(p, client, true, e);
        if (rc < 0) {
                ps_client_abandon(client);
                return rc;
        }
        pager_set_lane(p, lane);
        p->client = client;
        return 0;
}

/* Where the cache did not survive, the copy lane goes on in its place. */
static int try_daemon(struct pager *p, struct err *e)
{
        if (p->greeting.map_fd >= 0) {
                int rc = try_server(p, false, PS_LANE_SHARED, e);

                if (rc != -ESTALE)
                        return rc;
                fd_close(&p->greeting.map_fd);
        }
        return try_server(p, false, PS_LANE_COPY, e);
}

static int try_private(struct pager *p, struct err *e)
{
        return try_server(p, true, p->greeting.cache_fd >= 0 ? PS_LANE_SHARED :
                                                                  PS_LANE_COPY, e);
}

int pager_server_replace(struct pager *p, bool daemon_only, struct err *e)
{
        int rc = p->socket ? try_daemon(p, e) : -ENOENT;

        return rc < 0 && !daemon_only ? try_private(p, e) : rc;
}
