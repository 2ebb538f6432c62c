/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what the page server tells of itself is well-formed whatever its clients are
 *       called, and says what was counted.
 * Method: looks made by hand, with names that try to break out. The text for
 *         Prometheus is read by a strict reader of the format, written from its
 *         description, and by lines known beforehand; JSON by our own parser. */
#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "common/rate.h"
#include "pageserver/metrics.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define EVIL "/a\\b\"} 1\nfake{x=\"\xc3\xbc,=# HELP"

static void make_client(struct metrics_client *c, unsigned id, const char *image)
{
        struct histogram h = { 0 };

        memset(c, 0, sizeof(*c));
        c->id = id;
        c->pid = 4711;
        c->uid = 1000;
        c->state = "serving";
        c->lane = "shared";
        snprintf(c->image, sizeof(c->image), "%s", image);
        snprintf(c->tag, sizeof(c->tag), "t%u", id);
        c->region_bytes = 1000;
        c->present_bytes = 250;
        c->demand_faults = 3;
        c->demand_bytes = 12288;
        c->prefetch_bytes = 5;
        c->zero_bytes = 6;
        c->removed_bytes = 7;
        c->bad_units = 8;
        c->queued_faults = 9;
        c->prefetch_rate = RATE_UNLIMITED;
        c->attached_for_ns = 1500000000;
        histogram_add(&h, 1024);        /* the first bound that is shown */
        histogram_add(&h, 1025);
        histogram_add(&h, 2000000000);
        histogram_read(&h, &c->demand);
}

static void make_cache(struct metrics_cache *c, uint64_t id, const char *image)
{
        memset(c, 0, sizeof(*c));
        c->id = id;
        c->uid = 1000;
        snprintf(c->image, sizeof(c->image), "%s", image);
        c->clients = 2;
        c->bytes = 4096;
        c->filled_bytes = 2048;
        c->memory_bytes = 2560;
}

/* two clients and two caches, the second ones with the evil name */
static struct metrics *sample(void)
{
        static struct metrics_client client[2];
        static struct metrics_cache cache[2];
        static struct metrics m;

        make_client(&client[0], 1, "/srv/a.qcow2");
        make_client(&client[1], 20, EVIL);
        client[1].prefetch_rate = 1048576;
        client[1].prefetch_paused = true;
        client[1].resident_after_ns = 2000000;
        client[1].hanging_for_ns = 3000000000;
        make_cache(&cache[0], 7, "/srv/a.qcow2");
        make_cache(&cache[1], 8, EVIL);
        m = (struct metrics){
                .workers = 2, .hanging = 4, .clients_ever = 21,
                .all = { .demand_faults = 30, .demand_bytes = 31, .prefetch_bytes = 32,
                         .zero_bytes = 33, .demand = client[0].demand },
                .client = client, .clients = 2,
                .cache = cache, .caches = 2,
        };
        return &m;
}

static char *text_of(const struct metrics *m)
{
        char *text = NULL;
        size_t bytes;
        FILE *out = open_memstream(&text, &bytes);

        CU_ASSERT_PTR_NOT_NULL_FATAL(out);
        metrics_text(m, out);
        fclose(out);
        return text;
}

/* ---- a strict reader of the format ------------------------------------------ */

#define SERIES_MAX 400

struct series {
        char key[1400];                 /* name and labels */
        double value;
};

struct reader {
        char family[64];                /* of the last TYPE */
        char type[16];
        char seen[64][64];              /* families that are over, or under way */
        unsigned families;
        struct series *series;
        unsigned n;
        const char *wrong;
};

static size_t name_length(const char *p)
{
        static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:";
        size_t n = strspn(p, first);

        return n ? n + strspn(p + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_:"
                              "0123456789") : 0;
}

/* behind the closing quote, NULL = malformed */
static const char *label_value(const char *p)
{
        if (*p++ != '"')
                return NULL;
        for (; *p && *p != '"'; p++) {
                if (*p == '\n')
                        return NULL;
                if (*p == '\\' && !strchr("\\\"n", *++p))
                        return NULL;
        }
        return *p == '"' ? p + 1 : NULL;
}

static const char *labels(const char *p)
{
        do {
                size_t n = name_length(++p);

                if (!n || p[n] != '=')
                        return NULL;
                p = label_value(p + n + 1);
        } while (p && *p == ',');
        return p && *p == '}' ? p + 1 : NULL;
}

static bool of_family(const struct reader *r, const char *name, size_t n)
{
        static const char *const ends[] = { "", "_bucket", "_sum", "_count" };
        size_t f = strlen(r->family);

        for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
                if (i > 0 && strcmp(r->type, "histogram") != 0)
                        return false;
                if (n == f + strlen(ends[i]) && !strncmp(name, r->family, f) &&
                    !strncmp(name + f, ends[i], strlen(ends[i])))
                        return i > 0 || strcmp(r->type, "histogram") != 0;
        }
        return false;
}

static void sample_line(struct reader *r, const char *line)
{
        struct series *s = &r->series[r->n];
        size_t n = name_length(line);
        const char *p = line + n;
        char *end;

        if (!n || !of_family(r, line, n)) {
                r->wrong = "a sample outside its family";
                return;
        }
        if (*p == '{')
                p = labels(p);
        if (!p || *p != ' ' || (size_t)(p - line) >= sizeof(s->key) || r->n == SERIES_MAX) {
                r->wrong = "labels";
                return;
        }
        snprintf(s->key, sizeof(s->key), "%.*s", (int)(p - line), line);
        s->value = strtod(p + 1, &end);
        if (end == p + 1 || *end)
                r->wrong = "a value";
        for (unsigned i = 0; i < r->n; i++) {
                if (!strcmp(r->series[i].key, s->key))
                        r->wrong = "a series twice";
        }
        r->n++;
}

static void comment_line(struct reader *r, const char *line)
{
        char name[64], rest[200], type[16];

        if (sscanf(line, "# HELP %63s %199[^\n]", name, rest) == 2) {
                for (unsigned i = 0; i < r->families; i++) {
                        if (!strcmp(r->seen[i], name))
                                r->wrong = "a family twice";
                }
                snprintf(r->seen[r->families++ % 64], 64, "%s", name);
                r->family[0] = '\0';
                return;
        }
        if (sscanf(line, "# TYPE %63s %15s", name, type) != 2 ||
            strcmp(name, r->seen[r->families - 1]) != 0) {
                r->wrong = "a TYPE without its HELP";
                return;
        }
        snprintf(r->family, sizeof(r->family), "%s", name);
        snprintf(r->type, sizeof(r->type), "%s", type);
        if (strcmp(type, "gauge") != 0 && strcmp(type, "counter") != 0 &&
            strcmp(type, "histogram") != 0)
                r->wrong = "a type";
        /* by convention, and only theirs */
        if (!strcmp(type, "counter") != (strstr(name, "_total") != NULL))
                r->wrong = "a counter's name";
}

static struct reader read_text(char *text)
{
        struct reader r = { .series = calloc(SERIES_MAX + 1, sizeof(struct series)) };
        size_t bytes = strlen(text);

        CU_ASSERT_PTR_NOT_NULL_FATAL(r.series);
        if (!bytes || text[bytes - 1] != '\n')
                r.wrong = "no newline at the end";
        for (char *line = text, *end; !r.wrong && (end = strchr(line, '\n')); line = end + 1) {
                *end = '\0';
                if (line[0] == '#')
                        comment_line(&r, line);
                else
                        sample_line(&r, line);
                EXPECT_TEXT(line, r.wrong ? r.wrong : "", "");
        }
        return r;
}

static double value_of(const struct reader *r, const char *key)
{
        for (unsigned i = 0; i < r->n; i++) {
                if (!strcmp(r->series[i].key, key))
                        return r->series[i].value;
        }
        return -1;
}

/* ---- cases -------------------------------------------------------------------- */

static void text_is_well_formed(void)
{
        AUTO_FREE char *text = text_of(sample());
        struct reader r = read_text(text);

        CU_ASSERT(r.n > 100);
        CU_ASSERT_EQUAL(r.families, 32);
        free(r.series);
}

static void nobody_is_well_formed_too(void)
{
        struct metrics none = { .workers = 1 };
        AUTO_FREE char *text = text_of(&none);
        struct reader r = read_text(text);

        CU_ASSERT_EQUAL(r.n, 4 + 4 + 2 * 28);
        CU_ASSERT_EQUAL(value_of(&r, "snapback_pageserver_clients"), 0);
        free(r.series);
}

static void buckets_add_up(void)
{
        AUTO_FREE char *text = text_of(sample());
        struct reader r = read_text(text);
        double before = 0;
        unsigned buckets = 0;

        for (unsigned i = 0; i < r.n; i++) {
                if (!strstr(r.series[i].key, "_demand_seconds_bucket{client=\"1\""))
                        continue;
                CU_ASSERT(r.series[i].value >= before);
                before = r.series[i].value;
                buckets++;
        }
        CU_ASSERT_EQUAL(buckets, 26);
        CU_ASSERT_EQUAL(before, 3);
        free(r.series);
}

static const char *const golden[] = {
        "# HELP snapback_pageserver_workers Threads that serve faults.",
        "# TYPE snapback_pageserver_workers gauge",
        "snapback_pageserver_workers 2",
        "snapback_pageserver_clients 2",
        "snapback_pageserver_clients_seen_total 21",
        "snapback_pageserver_demand_faults_total 30",
        "snapback_pageserver_demand_bytes_total 31",
        "snapback_pageserver_prefetch_bytes_total 32",
        "snapback_pageserver_zero_bytes_total 33",
        "# TYPE snapback_pageserver_demand_seconds histogram",
        "snapback_pageserver_demand_seconds_bucket{le=\"0.000002048\"} 2",
        "snapback_pageserver_demand_seconds_bucket{le=\"+Inf\"} 3",
        "snapback_pageserver_demand_seconds_sum 2.000002049",
        "snapback_pageserver_demand_seconds_count 3",
        "snapback_pageserver_prefetch_seconds_count 0",
        "snapback_pageserver_client_info{client=\"1\",pid=\"4711\",uid=\"1000\","
        "state=\"serving\",lane=\"shared\",image=\"/srv/a.qcow2\",tag=\"t1\"} 1",
        "snapback_pageserver_client_info{client=\"20\",pid=\"4711\",uid=\"1000\","
        "state=\"serving\",lane=\"shared\","
        "image=\"/a\\\\b\\\"} 1\\nfake{x=\\\"\xc3\xbc,=# HELP\",tag=\"t20\"} 1",
        "snapback_pageserver_client_region_bytes{client=\"1\"} 1000",
        "snapback_pageserver_client_present_bytes{client=\"20\"} 250",
        "snapback_pageserver_client_demand_faults_total{client=\"1\"} 3",
        "snapback_pageserver_client_demand_bytes_total{client=\"1\"} 12288",
        "snapback_pageserver_client_prefetch_bytes_total{client=\"1\"} 5",
        "snapback_pageserver_client_zero_bytes_total{client=\"1\"} 6",
        "snapback_pageserver_client_removed_bytes{client=\"1\"} 7",
        "snapback_pageserver_client_bad_units{client=\"1\"} 8",
        "snapback_pageserver_client_queued_faults{client=\"1\"} 9",
        "snapback_pageserver_hanging_threads 4",
        "snapback_pageserver_client_hanging_seconds{client=\"20\"} 3",
        "snapback_pageserver_client_attached_seconds{client=\"1\"} 1.5",
        "snapback_pageserver_client_resident_seconds{client=\"20\"} 0.002",
        "snapback_pageserver_client_prefetch_rate_bytes{client=\"1\"} +Inf",
        "snapback_pageserver_client_prefetch_rate_bytes{client=\"20\"} 1048576",
        "snapback_pageserver_client_prefetch_paused{client=\"1\"} 0",
        "snapback_pageserver_client_prefetch_paused{client=\"20\"} 1",
        "# TYPE snapback_pageserver_client_demand_seconds histogram",
        "snapback_pageserver_client_demand_seconds_bucket"
        "{client=\"1\",le=\"0.000001024\"} 1",
        "snapback_pageserver_client_demand_seconds_bucket"
        "{client=\"1\",le=\"0.000002048\"} 2",
        "snapback_pageserver_client_demand_seconds_bucket"
        "{client=\"1\",le=\"1.073741824\"} 2",
        "snapback_pageserver_client_demand_seconds_bucket"
        "{client=\"1\",le=\"17.179869184\"} 3",
        "snapback_pageserver_client_demand_seconds_bucket{client=\"1\",le=\"+Inf\"} 3",
        "snapback_pageserver_client_demand_seconds_sum{client=\"1\"} 2.000002049",
        "snapback_pageserver_client_demand_seconds_count{client=\"1\"} 3",
        "snapback_pageserver_client_prefetch_seconds_count{client=\"1\"} 0",
        "snapback_pageserver_cache_info{cache=\"7\",uid=\"1000\","
        "image=\"/srv/a.qcow2\",tag=\"\"} 1",
        "snapback_pageserver_cache_clients{cache=\"8\"} 2",
        "snapback_pageserver_cache_bytes{cache=\"8\"} 4096",
        "snapback_pageserver_cache_filled_bytes{cache=\"8\"} 2048",
        "snapback_pageserver_cache_memory_bytes{cache=\"8\"} 2560",
};

static void golden_lines(void)
{
        AUTO_FREE char *text = text_of(sample());

        for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
                char line[400];

                snprintf(line, sizeof(line), "\n%s\n", golden[i]);
                /* the very first line has none before it */
                EXPECT_TRUE(golden[i], strstr(text, line + (i == 0)));
        }
        CU_ASSERT_PTR_NULL(strstr(text, "resident_seconds{client=\"1\"}"));
}

static uint64_t number(struct json_object *o, const char *key)
{
        uint64_t n = UINT64_MAX;

        EXPECT_EQUAL(key, json_take_u64(o, key, UINT64_MAX, &n, NULL), 0);
        return n;
}

static const char *string(struct json_object *o, const char *key)
{
        const char *s = "(none)";

        EXPECT_EQUAL(key, json_take_str(o, key, &s, NULL), 0);
        return s;
}

static struct json_object *member(struct json_object *o, const char *key)
{
        struct json_object *v = NULL;

        EXPECT_EQUAL(key, json_object_object_get_ex(o, key, &v), 1);
        return v;
}

/* written, and parsed as a stranger would */
static struct json_object *again(struct json_object *o)
{
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);
        struct json_object *back = NULL;

        CU_ASSERT_EQUAL_FATAL(json_parse(text, strlen(text), &back, NULL), 0);
        json_object_put(o);
        return back;
}

static void client_in_json(void)
{
        struct metrics *m = sample();
        AUTO_JSON *o = again(metrics_client_json(&m->client[0]));
        struct json_object *latency = member(o, "demand_us");
        struct json_object *prefetch = member(o, "prefetch");

        CU_ASSERT_EQUAL(number(o, "id"), 1);
        CU_ASSERT_EQUAL(number(o, "pid"), 4711);
        CU_ASSERT_EQUAL(number(o, "uid"), 1000);
        CU_ASSERT_EQUAL(number(o, "present_bytes"), 250);
        CU_ASSERT_EQUAL(number(o, "removed_bytes"), 7);
        CU_ASSERT_EQUAL(number(o, "bad_units"), 8);
        CU_ASSERT_EQUAL(number(o, "queued_faults"), 9);
        EXPECT_TEXT("image", string(o, "image"), "/srv/a.qcow2");
        EXPECT_TEXT("tag", string(o, "tag"), "t1");
        EXPECT_TEXT("percent", json_object_to_json_string(member(o, "resident_percent")),
                    "25.00");
        EXPECT_TEXT("prefetch", string(prefetch, "state"), "on");
        CU_ASSERT_PTR_NULL(member(prefetch, "rate"));
        CU_ASSERT_EQUAL(number(prefetch, "bytes"), 5);
        CU_ASSERT_PTR_NULL(member(o, "resident_after_us"));
        CU_ASSERT_PTR_NULL(member(o, "hanging_for_us"));
        EXPECT_TEXT("attached", json_object_to_json_string(member(o, "attached_for_us")),
                    "1500000.000");
        CU_ASSERT_EQUAL(number(latency, "count"), 3);
        EXPECT_TEXT("p50", json_object_to_json_string(member(latency, "p50")), "1.280");
        EXPECT_TEXT("max", json_object_to_json_string(member(latency, "max")), "2000000.000");
        CU_ASSERT_EQUAL(number(member(o, "prefetch_us"), "count"), 0);
}

static void odd_client_in_json(void)
{
        struct metrics *m = sample();
        AUTO_JSON *o = again(metrics_client_json(&m->client[1]));
        struct json_object *prefetch = member(o, "prefetch");

        EXPECT_TEXT("image", string(o, "image"), EVIL);
        EXPECT_TEXT("prefetch", string(prefetch, "state"), "paused");
        CU_ASSERT_EQUAL(number(prefetch, "rate"), 1048576);
        EXPECT_TEXT("resident", json_object_to_json_string(member(o, "resident_after_us")),
                    "2000.000");
        EXPECT_TEXT("hanging", json_object_to_json_string(member(o, "hanging_for_us")),
                    "3000000.000");
}

static void new_client_in_json(void)
{
        struct metrics_client c = { .id = 3, .state = "hello", .lane = "" };
        AUTO_JSON *o = again(metrics_client_json(&c));

        CU_ASSERT_PTR_NULL(member(o, "attached_for_us"));
        EXPECT_TEXT("percent", json_object_to_json_string(member(o, "resident_percent")), "0.00");
        EXPECT_TEXT("state", string(o, "state"), "hello");
}

static void cache_in_json(void)
{
        struct metrics *m = sample();
        AUTO_JSON *o = again(metrics_cache_json(&m->cache[1]));

        CU_ASSERT_EQUAL(number(o, "id"), 8);
        EXPECT_TEXT("image", string(o, "image"), EVIL);
        CU_ASSERT_EQUAL(number(o, "clients"), 2);
        CU_ASSERT_EQUAL(number(o, "bytes"), 4096);
        CU_ASSERT_EQUAL(number(o, "filled_bytes"), 2048);
        CU_ASSERT_EQUAL(number(o, "memory_bytes"), 2560);
}

static const CU_TestInfo cases[] = {
        { "the text is well-formed", text_is_well_formed },
        { "the text without clients is too", nobody_is_well_formed_too },
        { "buckets add up", buckets_add_up },
        { "lines known beforehand", golden_lines },
        { "a client in JSON", client_in_json },
        { "a client with an odd name in JSON", odd_client_in_json },
        { "a client that has said nothing yet", new_client_in_json },
        { "a cache in JSON", cache_in_json },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ps-metrics", cases);
}
