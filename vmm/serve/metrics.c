/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics, for Prometheus */
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/check.h"
#include "vmm/serve/server-priv.h"

#define TEXT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metric {
        const char *name, *type, *help;
        uint64_t value;
};

static int count(void *ctx, const char *name)
{
        uint64_t *n = ctx;

        (void)name;
        ++*n;
        return 0;
}

static void print(FILE *out, const struct metric *m)
{
        fprintf(out, "# HELP snapback_serve_%s %s\n# TYPE snapback_serve_%s %s\n"
                "snapback_serve_%s %llu\n", m->name, m->help, m->name, m->type, m->name,
                (unsigned long long)m->value);
}

static void print_all(FILE *out, const struct server *s)
{
        const struct serve_counts *c = &s->counts;
        const struct pool_stats pool = pool_stats(s->pool);
        uint64_t running = 0;
        bool counted = rundir_each(count, &running, NULL) == 0;

        const struct metric metrics[] = {
                { "vms", "gauge", "VMs that run.", running },
                { "creating", "gauge", "VMs that are being made.", s->creating },
                { "requests_total", "counter", "Requests that were let in.", c->requests },
                { "created_total", "counter", "VMs that were made.", c->created },
                { "created_pooled_total", "counter", "Of those, VMs that were prepared.",
                  c->pooled },
                { "create_failed_total", "counter", "VMs that could not be made.",
                  c->create_failed },
                { "create_refused_total", "counter", "VMs that there was no room for.",
                  c->create_refused },
                { "snapshots_total", "counter", "Saves that were asked for.", c->snapshots },
                { "pool_size", "gauge", "Processes that the pool may hold.", pool.size },
                { "pool_ready", "gauge", "Of those, processes that are prepared.", pool.ready },
                { "pool_taken_total", "counter", "Processes taken out of the pool.",
                  pool.taken },
                { "pool_missed_total", "counter", "Times that none was prepared.",
                  pool.missed },
        };

        /* no number is better than a wrong one */
        for (size_t i = counted ? 0 : 1; i < ARRAY_SIZE(metrics); i++)
                print(out, &metrics[i]);
}

void serve_metrics(struct server *s, struct exchange *x, const char *unused)
{
        AUTO_FREE char *text = NULL;
        size_t bytes = 0;
        FILE *out = open_memstream(&text, &bytes);

        (void)unused;
        if (out) {
                print_all(out, s);
                if (fclose(out) == 0) {
                        exchange_reply_text(x, 200, TEXT_TYPE, text, bytes);
                        return;
                }
        }
        exchange_refuse(x, 503, "no memory for the metrics");
}
