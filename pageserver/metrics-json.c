/* SPDX-License-Identifier: Apache-2.0 */
/* metrics-json.c - clients and caches as JSON. */
#include "pageserver/metrics.h"

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/rate.h"

static void put_us(struct json_object *o, const char *key, uint64_t ns)
{
        json_put_decimal(o, key, (double)ns / NS_PER_US, 3);
}

static double percent(uint64_t part, uint64_t whole)
{
        return whole ? (double)MIN(part, whole) * 100 / (double)whole : 0;
}

static void put_latency(struct json_object *o, const char *key, const struct histogram_view *v)
{
        static const struct {
                const char *name;
                unsigned permille;
        } quantiles[] = { { "p50", 500 }, { "p90", 900 }, { "p99", 990 } };
        struct json_object *l = json_object_new_object();

        json_put_u64(l, "count", v->count);
        for (size_t i = 0; i < ARRAY_SIZE(quantiles); i++)
                put_us(l, quantiles[i].name, histogram_quantile_ns(v, quantiles[i].permille));
        put_us(l, "max", v->max_ns);
        json_object_object_add(o, key, l);
}

static void put_prefetch(struct json_object *o, const struct metrics_client *c)
{
        struct json_object *p = json_object_new_object();

        json_put_str(p, "state", c->prefetch_paused ? "paused" : rate_name(c->prefetch_rate));
        if (c->prefetch_rate == RATE_UNLIMITED)
                json_put_null(p, "rate");
        else
                json_put_u64(p, "rate", c->prefetch_rate);
        json_put_u64(p, "bytes", c->prefetch_bytes);
        json_object_object_add(o, "prefetch", p);
}

static void put_us_or_null(struct json_object *o, const char *key, uint64_t ns)
{
        if (ns)
                put_us(o, key, ns);
        else
                json_put_null(o, key);
}

struct json_object *metrics_client_json(const struct metrics_client *c)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "id", c->id);
        json_put_u64(o, "pid", (uint64_t)c->pid);
        json_put_u64(o, "uid", c->uid);
        json_put_str(o, "state", c->state);
        json_put_str(o, "lane", c->lane);
        json_put_str(o, "image", c->image);
        json_put_str(o, "tag", c->tag);
        json_put_u64(o, "region_bytes", c->region_bytes);
        json_put_u64(o, "present_bytes", c->present_bytes);
        json_put_decimal(o, "resident_percent", percent(c->present_bytes, c->region_bytes), 2);
        json_put_u64(o, "demand_faults", c->demand_faults);
        json_put_u64(o, "demand_bytes", c->demand_bytes);
        json_put_u64(o, "zero_bytes", c->zero_bytes);
        json_put_u64(o, "removed_bytes", c->removed_bytes);
        json_put_u64(o, "bad_units", c->bad_units);
        json_put_u64(o, "queued_faults", c->queued_faults);
        put_prefetch(o, c);
        put_us_or_null(o, "attached_for_us", c->attached_for_ns);
        put_us_or_null(o, "resident_after_us", c->resident_after_ns);
        put_us_or_null(o, "hanging_for_us", c->hanging_for_ns);
        put_latency(o, "demand_us", &c->demand);
        put_latency(o, "prefetch_us", &c->prefetch);
        return o;
}

struct json_object *metrics_cache_json(const struct metrics_cache *c)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "id", c->id);
        json_put_u64(o, "uid", c->uid);
        json_put_str(o, "image", c->image);
        json_put_str(o, "tag", c->tag);
        json_put_u64(o, "clients", c->clients);
        json_put_u64(o, "bytes", c->bytes);
        json_put_u64(o, "filled_bytes", c->filled_bytes);
        json_put_u64(o, "memory_bytes", c->memory_bytes);
        return o;
}
