/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/metrics.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/utf8.h"
#include "pageserver/member.h"
#include "pageserver/removed.h"
#include "pageserver/session-priv.h"
#include "pageserver/watch.h"

/* what fstat() counts in */
#define BLOCK_BYTES 512u

static const char *const state_names[] = {
        [SESSION_HELLO] = "hello", [SESSION_WELCOMED] = "welcomed", [SESSION_SERVING] = "serving",
        [SESSION_DRAINING] = "draining", [SESSION_GONE] = "gone",
};

/* what HELLO brought */
static void look_at_image(struct session *s, struct metrics_client *c)
{
        c->lane = s->cache ? "shared" : "copy";
        utf8_mend(s->path ? s->path : source_path(s->source), c->image, sizeof(c->image));
        utf8_mend(source_info(s->source)->tag, c->tag, sizeof(c->tag));
}

/* what ATTACH brought; all of it is looked at bit by bit only until nothing is missing */
static void look_at_memory(struct session *s, uint64_t now_ns, struct metrics_client *c)
{
        uint64_t attached_ns = atomic_load(&s->count.attached_ns);
        uint64_t resident_ns = atomic_load(&s->count.resident_ns);
        const struct bits *bad = &s->bad;

        c->region_bytes = s->total_bytes;
        c->present_bytes = resident_ns ? s->total_bytes : session_present_bytes(s);
        c->bad_units = resident_ns ? 0 : bits_count_any(&bad, 1, 0, s->units);
        c->removed_bytes = s->removed ? removed_bytes(s->removed) : 0;
        c->prefetch_rate = prefetch_rate_set(&s->prefetch);
        c->prefetch_paused = prefetch_paused(&s->prefetch);
        c->attached_for_ns = now_ns - MIN(now_ns, attached_ns);
        if (resident_ns)
                c->resident_after_ns = MAX(resident_ns - attached_ns, 1u);
}

static void look_at_counters(const struct session_counters *count, struct metrics_client *c)
{
        c->demand_faults = atomic_load(&count->demand_faults);
        c->demand_bytes = atomic_load(&count->demand_bytes);
        c->prefetch_bytes = atomic_load(&count->prefetch_bytes);
        c->zero_bytes = atomic_load(&count->zero_bytes);
        c->queued_faults = atomic_load(&count->queued);
        histogram_read(&count->demand_ns, &c->demand);
        histogram_read(&count->prefetch_ns, &c->prefetch);
}

void metrics_look_at_client(struct session *s, uint64_t now_ns, struct metrics_client *ret)
{
        enum session_state state = session_state(s);

        static_assert(ARRAY_SIZE(state_names) == SESSION_GONE + 1, "one name per state");
        memset(ret, 0, sizeof(*ret));
        ret->id = s->id;
        ret->pid = s->pid;
        ret->uid = s->uid;
        ret->state = state_names[state];
        ret->lane = "";
        if (s->source)
                look_at_image(s, ret);
        if (state >= SESSION_SERVING)
                look_at_memory(s, now_ns, ret);
        if (s->hanging_since_ns)
                ret->hanging_for_ns = now_ns - MIN(now_ns, s->hanging_since_ns);
        look_at_counters(&s->count, ret);
}

void metrics_look_at_cache(const struct cache *c, struct metrics_cache *ret)
{
        const struct source *source = cache_source(c);
        struct fillmap_ident ident = source_ident(source);
        const struct bits *filled = fillmap_bits(cache_map(c));
        struct stat st = { 0 };

        /* a memfd of ours: it cannot fail */
        (void)fstat(cache_fd(c), &st);
        memset(ret, 0, sizeof(*ret));
        ret->id = st.st_ino;
        ret->uid = cache_uid(c);
        utf8_mend(source_path(source), ret->image, sizeof(ret->image));
        utf8_mend(source_info(source)->tag, ret->tag, sizeof(ret->tag));
        ret->clients = cache_clients(c);
        ret->bytes = ident.clusters << ident.cluster_bits;
        ret->filled_bytes = bits_count_any(&filled, 1, 0, ident.clusters) << ident.cluster_bits;
        ret->memory_bytes = (uint64_t)st.st_blocks * BLOCK_BYTES;
}

/* ---- all of the server ------------------------------------------------------- */

static int look_at_clients(const struct members *members, struct metrics *m)
{
        struct session *s[SESSIONS_MAX];
        uint64_t now_ns = clock_now_ns();
        size_t n = members_list(members, s);

        m->client = calloc(n + 1, sizeof(*m->client));
        if (!m->client)
                return -ENOMEM;
        m->all = members->host->gone;
        for (size_t i = 0; i < n; i++) {
                metrics_look_at_client(s[i], now_ns, &m->client[i]);
                session_sum_add(&m->all, s[i]);
        }
        m->clients = n;
        return 0;
}

static int look_at_caches(const struct members *members, struct metrics *m)
{
        const struct cache *first = members->host->caches.first;
        size_t n = 0;

        for (const struct cache *c = first; c; c = cache_next(c))
                n++;
        m->cache = calloc(n + 1, sizeof(*m->cache));
        if (!m->cache)
                return -ENOMEM;
        for (const struct cache *c = first; c; c = cache_next(c))
                metrics_look_at_cache(c, &m->cache[m->caches++]);
        return 0;
}

static int print(const struct metrics *m, char **ret_text, size_t *ret_bytes)
{
        char *text = NULL;
        FILE *out = open_memstream(&text, ret_bytes);

        if (!out)
                return -ENOMEM;
        metrics_text(m, out);

        bool failed = ferror(out);

        if (fclose(out) != 0 || failed) {
                free(text);
                return -ENOMEM;
        }
        *ret_text = text;
        return 0;
}

int metrics_print(const struct members *members, char **ret_text, size_t *ret_bytes)
{
        struct metrics m = {
                .workers = members->host->workers, .clients_ever = members->next_id,
                .hanging = watch_hanging(members->watch),
        };
        int rc = look_at_clients(members, &m);

        if (rc == 0)
                rc = look_at_caches(members, &m);
        if (rc == 0)
                rc = print(&m, ret_text, ret_bytes);
        free(m.client);
        free(m.cache);
        return rc;
}
