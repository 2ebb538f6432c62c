/* SPDX-License-Identifier: Apache-2.0 */
/* metrics-text.c - the same for Prometheus.
 *
 * The format wants all lines of one metric together, so the loops are: metrics
 * outside, clients inside. What a client is stands in one metric, client_info; the
 * others carry its id alone, which keeps long paths out of thousands of lines.
 */
#include <inttypes.h>
#include <stddef.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/rate.h"
#include "pageserver/metrics.h"

#define PREFIX "snapback_pageserver_"

/* Buckets from 2^10 ns (1 us) to 2^34 ns (17 s), a factor of two apart: what is
 * shown of the finer ones, for 2 x 25 lines a client add up. */
#define BUCKET_FIRST_BITS 10u
#define BUCKET_LAST_BITS 34u
static_assert(BUCKET_FIRST_BITS >= HISTOGRAM_FIRST_BITS && BUCKET_LAST_BITS <= HISTOGRAM_LAST_BITS,
              "they are bounds of the histogram");

/* A number or latency of one client or cache, or of all: `at` is where, in its struct. */
struct family {
        const char *name;
        const char *type;
        const char *help;
        size_t at;
};

#define CLIENT(name, type, member, help) \
        { "client_" name, type, help, offsetof(struct metrics_client, member) }
#define CACHE(name, type, member, help) \
        { "cache_" name, type, help, offsetof(struct metrics_cache, member) }

#define ALL(name, type, member, help) \
        { name, type, help, offsetof(struct session_sum, member) }

static const struct family all_bytes[] = {
        ALL("demand_faults_total", "counter", demand_faults, "Faults served."),
        ALL("demand_bytes_total", "counter", demand_bytes, "Bytes brought for faults."),
        ALL("prefetch_bytes_total", "counter", prefetch_bytes, "Bytes brought ahead of faults."),
        ALL("zero_bytes_total", "counter", zero_bytes, "Bytes given as zero pages, unread."),
};

static const struct family all_latencies[] = {
        ALL("demand_seconds", "histogram", demand,
            "Time from reading a fault to waking its thread."),
        ALL("prefetch_seconds", "histogram", prefetch, "Time of one step of prefetch."),
};

static const struct family client_bytes[] = {
        CLIENT("region_bytes", "gauge", region_bytes, "Memory that is in the server's care."),
        CLIENT("present_bytes", "gauge", present_bytes, "Memory that is in place."),
        CLIENT("demand_faults_total", "counter", demand_faults, "Faults served."),
        CLIENT("demand_bytes_total", "counter", demand_bytes, "Bytes brought for faults."),
        CLIENT("prefetch_bytes_total", "counter", prefetch_bytes, "Bytes brought ahead of faults."),
        CLIENT("zero_bytes_total", "counter", zero_bytes, "Bytes given as zero pages, unread."),
        CLIENT("removed_bytes", "gauge", removed_bytes, "Memory that the guest gave back."),
        CLIENT("bad_units", "gauge", bad_units, "Pieces of memory that cannot be read."),
        CLIENT("queued_faults", "gauge", queued_faults, "Faults that wait for a fetch under way."),
};

static const struct family client_seconds[] = {
        CLIENT("attached_seconds", "gauge", attached_for_ns, "Time since the client attached."),
        CLIENT("resident_seconds", "gauge", resident_after_ns,
               "Time from attaching until all memory was in place; only then shown."),
        CLIENT("hanging_seconds", "gauge", hanging_for_ns,
               "Time since its image or its memory answers no more; only then shown."),
};

static const struct family client_latencies[] = {
        CLIENT("demand_seconds", "histogram", demand,
               "Time from reading a fault to waking its thread."),
        CLIENT("prefetch_seconds", "histogram", prefetch, "Time of one step of prefetch."),
};

static const struct family cache_bytes[] = {
        CACHE("bytes", "gauge", bytes, "Size of the image's memory."),
        CACHE("filled_bytes", "gauge", filled_bytes, "Memory of the image that is in place."),
        CACHE("memory_bytes", "gauge", memory_bytes, "Host memory that the cache takes."),
};

static uint64_t number_at(const void *s, const struct family *f)
{
        return *(const uint64_t *)(const void *)((const char *)s + f->at);
}

static const struct histogram_view *latency_at(const void *s, const struct family *f)
{
        return (const void *)((const char *)s + f->at);
}

static void put_head(FILE *out, const char *name, const char *type, const char *help)
{
        fprintf(out, "# HELP " PREFIX "%s %s\n# TYPE " PREFIX "%s %s\n", name, help, name, type);
}

/* exactly, without zeros at the end: 1024 ns is 0.000001024 */
static void put_seconds(FILE *out, uint64_t ns)
{
        uint64_t rest = ns % NS_PER_SEC;
        int digits = 9;

        for (; digits > 0 && rest % 10 == 0; digits--)
                rest /= 10;
        fprintf(out, "%" PRIu64, (uint64_t)(ns / NS_PER_SEC));
        if (digits > 0)
                fprintf(out, ".%0*" PRIu64, digits, rest);
}

static void put_label(FILE *out, const char *name, const char *value)
{
        fprintf(out, "%s=\"", name);
        for (; *value; value++) {
                if (*value == '\n')
                        fputs("\\n", out);
                else if (*value == '\\' || *value == '"')
                        fprintf(out, "\\%c", *value);
                else
                        putc(*value, out);
        }
        putc('"', out);
}

/* labels: "" = none */
static void put_buckets(FILE *out, const char *name, const char *labels,
                        const struct histogram_view *v)
{
        const char *comma = *labels ? "," : "";
        const char *open = *labels ? "{" : "";
        const char *close = *labels ? "}" : "";

        for (unsigned bits = BUCKET_FIRST_BITS; bits <= BUCKET_LAST_BITS; bits++) {
                fprintf(out, PREFIX "%s_bucket{%s%sle=\"", name, labels, comma);
                put_seconds(out, 1ull << bits);
                fprintf(out, "\"} %" PRIu64 "\n", histogram_below(v, bits));
        }
        fprintf(out, PREFIX "%s_bucket{%s%sle=\"+Inf\"} %" PRIu64 "\n", name, labels, comma,
                v->count);
        fprintf(out, PREFIX "%s_sum%s%s%s ", name, open, labels, close);
        put_seconds(out, v->sum_ns);
        fprintf(out, "\n" PREFIX "%s_count%s%s%s %" PRIu64 "\n", name, open, labels, close,
                v->count);
}

/* ---- server ---------------------------------------------------------------- */

static void put_server(FILE *out, const struct metrics *m)
{
        put_head(out, "workers", "gauge", "Threads that serve faults.");
        fprintf(out, PREFIX "workers %u\n", m->workers);
        put_head(out, "hanging_threads", "gauge", "Threads that wait for what does not answer.");
        fprintf(out, PREFIX "hanging_threads %u\n", m->hanging);
        put_head(out, "clients", "gauge", "Clients that are connected or not yet gone.");
        fprintf(out, PREFIX "clients %zu\n", m->clients);
        put_head(out, "clients_seen_total", "counter", "Clients since the server began.");
        fprintf(out, PREFIX "clients_seen_total %" PRIu64 "\n", m->clients_ever);
        for (size_t i = 0; i < ARRAY_SIZE(all_bytes); i++) {
                put_head(out, all_bytes[i].name, all_bytes[i].type, all_bytes[i].help);
                fprintf(out, PREFIX "%s %" PRIu64 "\n", all_bytes[i].name,
                        number_at(&m->all, &all_bytes[i]));
        }
        for (size_t i = 0; i < ARRAY_SIZE(all_latencies); i++) {
                const struct family *f = &all_latencies[i];

                put_head(out, f->name, f->type, f->help);
                put_buckets(out, f->name, "", latency_at(&m->all, f));
        }
}

/* ---- clients --------------------------------------------------------------- */

static void put_client_info(FILE *out, const struct metrics *m)
{
        put_head(out, "client_info", "gauge", "What a client is; always 1.");
        for (size_t i = 0; i < m->clients; i++) {
                const struct metrics_client *c = &m->client[i];

                fprintf(out, PREFIX "client_info{client=\"%u\",pid=\"%d\",uid=\"%u\",", c->id,
                        (int)c->pid, (unsigned)c->uid);
                put_label(out, "state", c->state);
                putc(',', out);
                put_label(out, "lane", c->lane);
                putc(',', out);
                put_label(out, "image", c->image);
                putc(',', out);
                put_label(out, "tag", c->tag);
                fputs("} 1\n", out);
        }
}

static void put_client_bytes(FILE *out, const struct metrics *m, const struct family *f)
{
        put_head(out, f->name, f->type, f->help);
        for (size_t i = 0; i < m->clients; i++)
                fprintf(out, PREFIX "%s{client=\"%u\"} %" PRIu64 "\n", f->name, m->client[i].id,
                        number_at(&m->client[i], f));
}

/* a time of 0 has not come */
static void put_client_seconds(FILE *out, const struct metrics *m, const struct family *f)
{
        put_head(out, f->name, f->type, f->help);
        for (size_t i = 0; i < m->clients; i++) {
                uint64_t ns = number_at(&m->client[i], f);

                if (ns == 0)
                        continue;
                fprintf(out, PREFIX "%s{client=\"%u\"} ", f->name, m->client[i].id);
                put_seconds(out, ns);
                putc('\n', out);
        }
}

static void put_prefetch(FILE *out, const struct metrics *m)
{
        put_head(out, "client_prefetch_rate_bytes", "gauge",
                 "Bytes a second that may be brought ahead of faults.");
        for (size_t i = 0; i < m->clients; i++) {
                const struct metrics_client *c = &m->client[i];

                fprintf(out, PREFIX "client_prefetch_rate_bytes{client=\"%u\"} ", c->id);
                if (c->prefetch_rate == RATE_UNLIMITED)
                        fputs("+Inf\n", out);
                else
                        fprintf(out, "%" PRIu64 "\n", c->prefetch_rate);
        }
        put_head(out, "client_prefetch_paused", "gauge", "1 while prefetch is paused.");
        for (size_t i = 0; i < m->clients; i++)
                fprintf(out, PREFIX "client_prefetch_paused{client=\"%u\"} %d\n", m->client[i].id,
                        m->client[i].prefetch_paused);
}

static void put_client_latency(FILE *out, const struct metrics *m, const struct family *f)
{
        put_head(out, f->name, f->type, f->help);
        for (size_t i = 0; i < m->clients; i++) {
                char label[32];

                snprintf(label, sizeof(label), "client=\"%u\"", m->client[i].id);
                put_buckets(out, f->name, label, latency_at(&m->client[i], f));
        }
}

static void put_clients(FILE *out, const struct metrics *m)
{
        put_client_info(out, m);
        for (size_t i = 0; i < ARRAY_SIZE(client_bytes); i++)
                put_client_bytes(out, m, &client_bytes[i]);
        for (size_t i = 0; i < ARRAY_SIZE(client_seconds); i++)
                put_client_seconds(out, m, &client_seconds[i]);
        put_prefetch(out, m);
        for (size_t i = 0; i < ARRAY_SIZE(client_latencies); i++)
                put_client_latency(out, m, &client_latencies[i]);
}

/* ---- caches ---------------------------------------------------------------- */

static void put_cache_info(FILE *out, const struct metrics *m)
{
        put_head(out, "cache_info", "gauge", "What an image cache holds; always 1.");
        for (size_t i = 0; i < m->caches; i++) {
                const struct metrics_cache *c = &m->cache[i];

                fprintf(out, PREFIX "cache_info{cache=\"%" PRIu64 "\",uid=\"%u\",", c->id,
                        (unsigned)c->uid);
                put_label(out, "image", c->image);
                putc(',', out);
                put_label(out, "tag", c->tag);
                fputs("} 1\n", out);
        }
}

static void put_cache_bytes(FILE *out, const struct metrics *m, const struct family *f)
{
        put_head(out, f->name, f->type, f->help);
        for (size_t i = 0; i < m->caches; i++)
                fprintf(out, PREFIX "%s{cache=\"%" PRIu64 "\"} %" PRIu64 "\n", f->name,
                        m->cache[i].id, number_at(&m->cache[i], f));
}

static void put_caches(FILE *out, const struct metrics *m)
{
        put_cache_info(out, m);
        put_head(out, "cache_clients", "gauge", "Clients that share the cache.");
        for (size_t i = 0; i < m->caches; i++)
                fprintf(out, PREFIX "cache_clients{cache=\"%" PRIu64 "\"} %u\n", m->cache[i].id,
                        m->cache[i].clients);
        for (size_t i = 0; i < ARRAY_SIZE(cache_bytes); i++)
                put_cache_bytes(out, m, &cache_bytes[i]);
}

void metrics_text(const struct metrics *m, FILE *out)
{
        put_server(out, m);
        put_clients(out, m);
        put_caches(out, m);
}
