/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the HTTP door says what clients see themselves, takes orders for prefetch, and
 *       whatever comes to it harms nobody beside it.
 * Method: a server with guests in this process. Answers against the guest's own
 *         statistics; a table of requests; then too long, too slow and too many ones
 *         while a guest touches and looks at every byte. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "pageserver/http.h"
#include "tests/stress/http-ask.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define DISK_BYTES (24u << 20)
#define CROWD 200

struct rig {
        struct test_server server;
        struct fake_image image;
        int image_fd;
};

static void nap_ms(unsigned ms)
{
        struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        nanosleep(&t, NULL);
}

static void start_guest(const struct rig *r, struct guest *g, enum ps_lane lane, uint64_t rate)
{
        struct err e;

        *g = (struct guest){ .image = r->image, .image_fd = r->image_fd };
        MUST(ps_client_connect(r->server.path, &g->client, &e), &e);
        guest_map(g, lane, rate, 0);
        guest_attach(g, false);
}

static void touch_all(struct guest *g, unsigned seed)
{
        struct toucher t = { .guest = g, .seed = seed };

        toucher_start(&t);
        TEST(toucher_join(&t, PATIENCE_MS));
        TEST(t.wrong == 0);
}

/* ---- answers -------------------------------------------------------------------- */

/* of an answer with the status; an array is wrapped, for our parser takes objects */
static struct json_object *ask(const struct rig *r, const char *method, const char *path,
                               const char *body, int status)
{
        AUTO_FREE char *answer = http_ask(r->server.http, method, path, body);
        AUTO_FREE char *text = NULL;
        struct json_object *o = NULL;
        struct err e;

        if (http_status(answer) != status)
                fprintf(stderr, "%s %s: %s\n", method, path, answer ? answer : "no answer");
        TEST(http_status(answer) == status);
        TEST(asprintf(&text, "{\"all\":%s}", http_body(answer)) > 0);
        MUST(json_parse(text, strlen(text), &o, &e), &e);
        return o;
}

static uint64_t number(struct json_object *o, const char *key)
{
        uint64_t n;
        struct err e;

        MUST(json_take_u64(o, key, UINT64_MAX, &n, &e), &e);
        return n;
}

static const char *string(struct json_object *o, const char *key)
{
        const char *s;
        struct err e;

        MUST(json_take_str(o, key, &s, &e), &e);
        return s;
}

static struct json_object *all(struct json_object *o)
{
        struct json_object *list;
        struct err e;

        MUST(json_take_array(o, "all", 1000, &list, &e), &e);
        return list;
}

/* Guests of this process that have left are there as long as it is: their memory is
 * never gone. NULL unless one is being served. */
static struct json_object *find_served(struct json_object *list)
{
        struct json_object *found = NULL;

        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *c = json_object_array_get_idx(list, i);

                if (strcmp(string(c, "state"), "serving") != 0)
                        continue;
                TEST(!found);
                found = c;
        }
        return found;
}

static struct json_object *served(const struct rig *r, struct json_object **ret)
{
        struct json_object *c;

        *ret = ask(r, "GET", "/clients", NULL, 200);
        c = find_served(all(*ret));
        TEST(c);
        return c;
}

static void await_none_served(const struct rig *r)
{
        for (unsigned i = 0; i < PATIENCE_MS; i++) {
                AUTO_JSON *o = ask(r, "GET", "/clients", NULL, 200);

                if (!find_served(all(o)))
                        return;
                nap_ms(1);
        }
        TEST(!"the guest has left");
}

static void says_what_guests_see(const struct rig *r, enum ps_lane lane, const char *lane_name)
{
        struct guest g;
        struct ps_stats s;
        AUTO_JSON *o = NULL;
        char path[64];

        start_guest(r, &g, lane, PS_PREFETCH_OFF);
        touch_all(&g, 3);
        guest_stats(&g, &s);

        struct json_object *c = served(r, &o);

        TEST(number(c, "pid") == (uint64_t)getpid());
        TEST(number(c, "uid") == getuid());
        TEST(!strcmp(string(c, "image"), "fake image"));
        TEST(!strcmp(string(c, "state"), "serving"));
        TEST(!strcmp(string(c, "lane"), lane_name));
        TEST(number(c, "region_bytes") == s.total_bytes);
        TEST(number(c, "present_bytes") == s.present_bytes);
        TEST(number(c, "demand_faults") == s.demand_faults && s.demand_faults > 0);
        TEST(number(c, "demand_bytes") == s.demand_bytes);
        TEST(number(c, "zero_bytes") == s.zero_bytes);
        TEST(number(c, "queued_faults") == 0);

        struct json_object *latency;

        MUST(json_take_obj(c, "demand_us", &latency, NULL), &(struct err){ 0 });
        TEST(number(latency, "count") > 0);
        snprintf(path, sizeof(path), "/clients/%u", (unsigned)number(c, "id"));
        json_object_put(ask(r, "GET", path, NULL, 200));
        guest_free(&g);
        await_none_served(r);
        printf("ok: what a guest sees, %s lane\n", lane_name);
}

static void shows_caches(const struct rig *r)
{
        /* an image of its own: its cache is the newest, so the first */
        struct rig own = *r;
        struct guest g[2];

        own.image.seed++;
        own.image_fd = fake_image_file(&own.image);
        TEST(own.image_fd >= 0);
        for (unsigned i = 0; i < 2; i++)
                start_guest(&own, &g[i], PS_LANE_SHARED, PS_PREFETCH_OFF);
        touch_all(&g[0], 5);

        AUTO_JSON *o = ask(r, "GET", "/caches", NULL, 200);
        struct json_object *c = json_object_array_get_idx(all(o), 0);

        TEST(number(c, "clients") == 2);
        TEST(number(c, "bytes") == DISK_BYTES);
        TEST(number(c, "filled_bytes") > 0 && number(c, "filled_bytes") <= DISK_BYTES);
        TEST(number(c, "memory_bytes") >= number(c, "filled_bytes"));
        TEST(!strcmp(string(c, "image"), "fake image"));

        AUTO_FREE char *text = http_ask(r->server.http, "GET", "/metrics", NULL);
        char line[100];

        TEST(http_status(text) == 200);
        TEST(strstr(text, "Content-Type: text/plain; version=0.0.4"));
        snprintf(line, sizeof(line), "\nsnapback_pageserver_cache_clients{cache=\"%llu\"} 2\n",
                 (unsigned long long)number(c, "id"));
        TEST(strstr(text, line));
        for (unsigned i = 0; i < 2; i++)
                guest_free(&g[i]);
        close(own.image_fd);
        await_none_served(r);
        printf("ok: caches and metrics\n");
}

/* ---- orders --------------------------------------------------------------------- */

static uint64_t present(const struct rig *r)
{
        AUTO_JSON *o = NULL;

        return number(served(r, &o), "present_bytes");
}

static void order(const struct rig *r, const char *body)
{
        AUTO_JSON *o = ask(r, "PUT", "/prefetch", body, 200);
        struct json_object *all_of;

        MUST(json_take_obj(o, "all", &all_of, NULL), &(struct err){ 0 });
        TEST(number(all_of, "clients") == 1);
}

static void stands_still(const struct rig *r)
{
        /* a step may be under way */
        nap_ms(50);

        uint64_t before = present(r);

        nap_ms(300);
        TEST(present(r) == before);
        TEST(before < DISK_BYTES - (384 << 10));
}

static void takes_orders(const struct rig *r)
{
        struct guest g;
        struct ps_event event;
        AUTO_JSON *o = NULL;
        char path[64];

        start_guest(r, &g, PS_LANE_COPY, PS_PREFETCH_OFF);
        stands_still(r);
        order(r, "{\"rate\":\"4M\"}");
        for (unsigned i = 0; present(r) < 1 << 20; i++) {
                TEST(i < PATIENCE_MS);
                nap_ms(1);
        }
        order(r, "{\"rate\":\"pause\"}");
        stands_still(r);

        struct json_object *c = served(r, &o), *p;

        MUST(json_take_obj(c, "prefetch", &p, NULL), &(struct err){ 0 });
        TEST(!strcmp(string(p, "state"), "paused") && number(p, "rate") == 4 << 20);
        snprintf(path, sizeof(path), "/clients/%u/prefetch", (unsigned)number(c, "id"));
        json_object_put(ask(r, "PUT", path, "{\"rate\":\"on\"}", 200));
        guest_wait(&g, PS_EVENT_RESIDENT, &event);
        touch_all(&g, 7);
        guest_free(&g);
        await_none_served(r);
        json_object_put(ask(r, "PUT", path, "{\"rate\":\"on\"}", 409));
        printf("ok: orders\n");
}

/* ---- what is wrong ---------------------------------------------------------------- */

static void refusals(const struct rig *r)
{
        static const struct {
                const char *method, *path, *body;
                int status;
        } rows[] = {
                { "GET", "/", NULL, 404 },
                { "GET", "/client", NULL, 404 },
                { "GET", "/clients/", NULL, 404 },
                { "GET", "/clients/1x", NULL, 404 },
                { "GET", "/clients/-1", NULL, 404 },
                { "GET", "/clients/4294967296", NULL, 404 },
                { "GET", "/clients/99999", NULL, 404 },
                { "GET", "/clients/1/prefetch", NULL, 405 },
                { "PUT", "/clients", "{}", 405 },
                { "POST", "/prefetch", "{\"rate\":\"on\"}", 405 },
                { "DELETE", "/clients/1", NULL, 405 },
                { "PATCH", "/metrics", NULL, 405 },
                { "PUT", "/prefetch", NULL, 400 },
                { "PUT", "/prefetch", "{\"rate\":\"on\"", 400 },
                { "PUT", "/prefetch", "[]", 400 },
                { "PUT", "/prefetch", "{\"rate\":{}}", 400 },
                { "PUT", "/prefetch", "{\"rate\":-5}", 400 },
                { "PUT", "/prefetch", "{\"rate\":\"1E9\"}", 400 },
                { "PUT", "/clients/99999/prefetch", "{\"rate\":\"on\"}", 404 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *o = ask(r, rows[i].method, rows[i].path, rows[i].body, rows[i].status);
                struct json_object *answer;

                MUST(json_take_obj(o, "all", &answer, NULL), &(struct err){ 0 });
                TEST(strlen(string(answer, "error")) > 10);
        }
        printf("ok: refusals\n");
}

/* Sent as it is; the server may answer or hang up, but must come to an end. */
static void raw(const struct rig *r, const char *text, size_t bytes)
{
        AUTO_FD sock = http_dial(r->server.http, true);
        uint64_t start_ns = clock_now_ns();

        TEST(sock >= 0);
        (void)!send(sock, text, bytes, MSG_NOSIGNAL);
        shutdown(sock, SHUT_WR);
        free(http_read(sock));
        TEST(clock_now_ns() - start_ns < 15 * NS_PER_SEC);
}

static void long_and_odd_ones(const struct rig *r)
{
        static const char *const odd[] = {
                "", "\r\n\r\n", "GET", "GET /clients", "GET /clients HTTP/9.9\r\n\r\n",
                "GET http://[::1/ HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x01\x01",
                "PUT /prefetch HTTP/1.1\r\nContent-Length: -1\r\n\r\n{}",
                "PUT /prefetch HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
                "PUT /prefetch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
                "PUT /prefetch HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx",
                "CONNECT a:80 HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n",
                "GET http://x HTTP/1.1\r\n\r\n", "GET //// HTTP/1.0\r\n\r\n",
                "GET /clients?a=b#c HTTP/1.1\r\n\r\nGET /clients HTTP/1.1\r\n\r\n",
                "HEAD /metrics HTTP/1.1\r\n\r\n", "TRACE /clients HTTP/1.1\r\n\r\n",
                "GET /clients HTTP/1.1\r\nA\r\n\r\n", "GET /\xff\xfe HTTP/1.1\r\n\r\n",
        };
        static char big[1 << 20];

        for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
                raw(r, odd[i], strlen(odd[i]));
        raw(r, big, 100);               /* NULs */
        memset(big, 'a', sizeof(big));
        raw(r, big, sizeof(big));
        memcpy(big, "GET /", 5);
        raw(r, big, sizeof(big));
        memcpy(big, "GET / HTTP/1.1\r\nX: ", 19);
        raw(r, big, sizeof(big));

        int head = snprintf(big, sizeof(big), "PUT /prefetch HTTP/1.1\r\n"
                            "Content-Length: %zu\r\n\r\n", sizeof(big));

        memset(big + head, ' ', sizeof(big) - (size_t)head);
        raw(r, big, sizeof(big));
        printf("ok: long and odd ones\n");
}

/* ---- too slow and too many, beside a guest ------------------------------------------ */

struct slow {
        const struct rig *rig;
        pthread_t thread;
        double seconds;                 /* result: until the server hung up */
};

/* Never silent for long enough to be noticed by that. */
static void *send_slowly(void *arg)
{
        static const char head[] = "PUT /prefetch HTTP/1.1\r\nX-Padding: ";
        struct slow *s = arg;
        int sock = http_dial(s->rig->server.http, true);
        uint64_t start_ns = clock_now_ns();

        for (size_t i = 0; i < 300; i++) {
                char c = i < sizeof(head) - 1 ? head[i] : 'a';

                if (send(sock, &c, 1, MSG_NOSIGNAL) != 1)
                        break;
                nap_ms(100);
        }
        s->seconds = (double)(clock_now_ns() - start_ns) / NS_PER_SEC;
        close(sock);
        return NULL;
}

static unsigned crowd(const struct rig *r, int sock[CROWD])
{
        unsigned connected = 0;

        for (unsigned i = 0; i < CROWD; i++) {
                sock[i] = http_dial(r->server.http, false);
                connected += sock[i] >= 0;
                TEST(sock[i] >= 0 || sock[i] == -EAGAIN);
        }
        return connected;
}

static void beside_a_guest(const struct rig *r)
{
        struct slow slow = { .rig = r };
        struct guest g;
        struct ps_stats s;
        int sock[CROWD];

        start_guest(r, &g, PS_LANE_COPY, PS_PREFETCH_OFF);
        TEST(pthread_create(&slow.thread, NULL, send_slowly, &slow) == 0);
        nap_ms(200);

        unsigned connected = crowd(r, sock);

        TEST(connected > HTTP_CONNS_MAX);
        touch_all(&g, 11);
        guest_stats(&g, &s);            /* the main loop answers */
        TEST(s.present_bytes == s.total_bytes);
        for (unsigned i = 0; i < CROWD; i++) {
                if (sock[i] >= 0)
                        close(sock[i]);
        }

        uint64_t start_ns = clock_now_ns();

        json_object_put(ask(r, "GET", "/healthz", NULL, 200));
        TEST(clock_now_ns() - start_ns < 3 * NS_PER_SEC);
        pthread_join(slow.thread, NULL);
        if (slow.seconds > HTTP_CONN_SECONDS + 3)
                fprintf(stderr, "a slow sender was heard for %.1f s\n", slow.seconds);
        TEST(slow.seconds < HTTP_CONN_SECONDS + 3);
        guest_free(&g);
        await_none_served(r);
        printf("ok: a crowd of %u and a slow sender (%.1f s) beside a guest\n", connected,
               slow.seconds);
}

int main(void)
{
        struct rig r = { .image = { .seed = 9, .disk_bytes = DISK_BYTES, .cluster_bits = 14 } };

        setbuf(stdout, NULL);
        guest_need_uffd();
        r.image_fd = fake_image_file(&r.image);
        TEST(r.image_fd >= 0);
        test_server_start_http(&r.server, 2);
        says_what_guests_see(&r, PS_LANE_SHARED, "shared");
        says_what_guests_see(&r, PS_LANE_COPY, "copy");
        shows_caches(&r);
        takes_orders(&r);
        refusals(&r);
        long_and_odd_ones(&r);
        beside_a_guest(&r);
        test_server_stop(&r.server);
        close(r.image_fd);
        return 0;
}
