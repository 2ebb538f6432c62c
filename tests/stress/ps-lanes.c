/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: in both lanes, with and without prefetch, whatever the cluster size, every
 *       byte of a guest is the image's, and a resident guest lacks nothing.
 * Method: guests whose regions cut clusters apart, threads that touch all pages in
 *       scattered order at the same time; server and guests in one process, so that
 *       TSan sees both. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define GUESTS 2
#define TOUCHERS 2
#define PATIENCE_MS 60000

struct round {
        const char *name;
        enum ps_lane lane;
        uint32_t cluster_bits;
        uint64_t prefetch;
        unsigned hold_percent;
};

static const struct round rounds[] = {
        { "shared, demand only, 4 KiB",  PS_LANE_SHARED, 12, PS_PREFETCH_OFF, 0 },
        { "shared, prefetch, 16 KiB",    PS_LANE_SHARED, 14, PS_PREFETCH_UNLIMITED, 0 },
        { "shared, rate, 64 KiB",        PS_LANE_SHARED, 16, 64ull << 20, 0 },
        { "shared, hold 60 %, 16 KiB",   PS_LANE_SHARED, 14, PS_PREFETCH_OFF, 60 },
        { "shared, prefetch, 2 MiB",     PS_LANE_SHARED, 21, PS_PREFETCH_UNLIMITED, 0 },
        { "copy, demand only, 16 KiB",   PS_LANE_COPY, 14, PS_PREFETCH_OFF, 0 },
        { "copy, prefetch, 4 KiB",       PS_LANE_COPY, 12, PS_PREFETCH_UNLIMITED, 0 },
        { "copy, hold 100 %, 64 KiB",    PS_LANE_COPY, 16, PS_PREFETCH_OFF, 100 },
        { "copy, prefetch, 2 MiB",       PS_LANE_COPY, 21, PS_PREFETCH_UNLIMITED, 0 },
};

static void start_guest(struct guest *g, const struct round *r, const struct fake_image *image,
                        int image_fd, const char *socket_path)
{
        struct err e;

        *g = (struct guest){ .image = *image, .image_fd = image_fd };
        MUST(ps_client_connect(socket_path, &g->client, &e), &e);
        guest_map(g, r->lane, r->prefetch, r->hold_percent);
        guest_attach(g, false);
        if (r->hold_percent) {
                struct ps_stats s;

                guest_stats(g, &s);
                TEST(s.present_bytes >= s.total_bytes / 100 * r->hold_percent);
        }
}

static void check_stats(struct guest *g, const struct round *r)
{
        struct ps_event event;
        struct ps_stats s;

        /* touched or prefetched, everything is there now. RESIDENT may have come
         * before an earlier answer to stats, which then says so. */
        guest_stats(g, &s);
        if (!s.resident_ns) {
                guest_wait(g, PS_EVENT_RESIDENT, &event);
                guest_stats(g, &s);
        }
        TEST(s.present_bytes == s.total_bytes);
        TEST(s.total_bytes == g->image.disk_bytes - (384 << 10));
        TEST(s.bad_clusters == 0);
        TEST(s.attached_ns > 0 && s.resident_ns >= s.attached_ns);
        if (r->prefetch == PS_PREFETCH_OFF && !r->hold_percent)
                TEST(s.prefetch_bytes == 0);
        if (s.demand_faults >= 256)
                TEST(s.fault_ns[0] <= s.fault_ns[1] && s.fault_ns[1] <= s.fault_ns[2] &&
                     s.fault_ns[0] > 0);
}

static void play(const struct round *r, const char *socket_path)
{
        struct fake_image image = {
                .seed = 7 + r->cluster_bits, .disk_bytes = 24 << 20,
                .cluster_bits = r->cluster_bits,
        };
        int image_fd = fake_image_file(&image);
        struct guest g[GUESTS];
        struct toucher t[GUESTS][TOUCHERS];

        TEST(image_fd >= 0);
        for (unsigned i = 0; i < GUESTS; i++) {
                start_guest(&g[i], r, &image, image_fd, socket_path);
                for (unsigned j = 0; j < TOUCHERS; j++) {
                        t[i][j] = (struct toucher){ .guest = &g[i], .seed = i * 17 + j * 5 + 1 };
                        toucher_start(&t[i][j]);
                }
        }
        for (unsigned i = 0; i < GUESTS; i++) {
                for (unsigned j = 0; j < TOUCHERS; j++) {
                        TEST(toucher_join(&t[i][j], PATIENCE_MS));
                        TEST(t[i][j].wrong == 0);
                        TEST(t[i][j].touched == (g[i].image.disk_bytes - (384 << 10)) / 4096);
                }
                check_stats(&g[i], r);
        }
        for (unsigned i = 0; i < GUESTS; i++)
                guest_free(&g[i]);
        close(image_fd);
        printf("ok: %s\n", r->name);
}

int main(void)
{
        struct test_server server;

        setbuf(stdout, NULL);
        guest_need_uffd();
        test_server_start(&server, 3);
        for (size_t i = 0; i < ARRAY_SIZE(rounds); i++)
                play(&rounds[i], server.path);
        test_server_stop(&server);
        return 0;
}
