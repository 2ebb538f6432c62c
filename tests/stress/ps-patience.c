/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: nobody keeps a place without attaching, or the server busy by asking: a client
 *       without a hello, and one without an attach, are let go in time and told why;
 *       orders of one client are taken one by one with a breath between
 *       (INV-BREATH), none is lost, and a client that reads no answer stops nobody.
 * Method: raw sockets that wait; floods while the last of them does, beside a good guest
 *       that looks at every byte. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "pageserver/chan.h"
#include "pageserver/uffd.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define DISK_BYTES (4u << 20)
/* as in member.c */
#define HELLO_SECONDS 10
#define ATTACH_SECONDS 20
#define BREATH_NS (10 * NS_PER_MS)
/* the grain of the loop's clock; late is whatever a busy machine is */
#define EARLY_NS (NS_PER_SEC / 4)
/* until the socket is full of answers */
#define FLOOD_NS (4 * NS_PER_SEC)

struct rig {
        struct test_server server;
        struct fake_image image;
        int image_fd;
};

static int dial(const struct rig *r)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        memcpy(sa.sun_path, r->server.path, strlen(r->server.path));
        TEST(connect(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        return sock;
}

static int dial_welcomed(const struct rig *r)
{
        struct psmsg m = { .type = PSMSG_HELLO, .hello = {
                .lane = PSMSG_LANE_COPY, .nimages = 1, .page_bytes = PSMSG_PAGE_SMALL } };
        int fds[FDPASS_FDS_MAX];
        int sock = dial(r);

        TEST(chan_send(sock, &m, &r->image_fd) == 0);
        TEST(chan_recv(sock, &m, fds) == 0);
        TEST(m.type == PSMSG_WELCOME && psmsg_fds(&m) == 0);
        return sock;
}

static void let_go_after(int sock, uint64_t since_ns, unsigned seconds, const char *why)
{
        int fds[FDPASS_FDS_MAX];
        struct psmsg m;

        TEST(chan_recv(sock, &m, fds) == 0);

        uint64_t ns = clock_now_ns() - since_ns;

        TEST(m.type == PSMSG_ERROR && m.error.code == -ETIMEDOUT);
        TEST(strstr(m.error.text, why));
        TEST(ns + EARLY_NS >= seconds * NS_PER_SEC);
        TEST(chan_recv(sock, &m, fds) == -EPIPE);
        close(sock);
        printf("ok: %s\n", why);
}

static void attach(int sock)
{
        struct psmsg m = { .type = PSMSG_ATTACH, .attach = { .nuffds = 1, .nregions = 1 } };
        int fds[FDPASS_FDS_MAX];
        struct err e;
        int uffd;

        MUST(uffd_open(0, &uffd, &e), &e);
        m.attach.region[0] = (struct psmsg_region){ .hva = 1 << 30, .bytes = DISK_BYTES };
        TEST(chan_send(sock, &m, &uffd) == 0);
        TEST(chan_recv(sock, &m, fds) == 0 && m.type == PSMSG_ATTACHED);
        close(uffd);
}

/* ---- floods --------------------------------------------------------------------- */

static void guest_start(struct guest *g, const struct rig *r)
{
        struct err e;

        *g = (struct guest){ .image = r->image, .image_fd = r->image_fd };
        MUST(ps_client_connect(r->server.path, &g->client, &e), &e);
        guest_map(g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_attach(g, false);
}

/* INV-BREATH */
static void one_by_one(const struct rig *r)
{
        enum { ORDERS = 50 };
        uint64_t start_ns = clock_now_ns();
        struct ps_stats stats;
        struct guest g;
        struct err e;

        guest_start(&g, r);
        for (unsigned i = 1; i <= ORDERS; i++) {
                MUST(ps_client_retry(g.client, &e), &e);
                MUST(ps_client_prefetch(g.client, i << 20, &e), &e);
        }
        guest_stats(&g, &stats);
        TEST(clock_now_ns() - start_ns >= 2 * ORDERS * BREATH_NS * 9 / 10);
        TEST(stats.prefetch_rate == ORDERS << 20);
        guest_free(&g);
        printf("ok: orders one by one, none lost\n");
}

/* Returns how many orders its socket took. */
static unsigned flood(int sock, uint64_t for_ns)
{
        struct psmsg ask = { .type = PSMSG_ASK_STATS };
        struct timespec moment = { .tv_nsec = 100000 };
        uint64_t end_ns = clock_now_ns() + for_ns;
        unsigned n = 0;

        TEST(fcntl(sock, F_SETFL, O_NONBLOCK) == 0);
        while (clock_now_ns() < end_ns) {
                int rc = chan_send(sock, &ask, NULL);

                TEST(rc == 0 || rc == -EAGAIN);
                if (rc == 0)
                        n++;
                else
                        nanosleep(&moment, NULL);
        }
        return n;
}

/* Its answers are never read; the good guest is through all the same, and the socket,
 * not the server, is what is full of orders. */
static void beside_a_flood(const struct rig *r)
{
        struct guest good;
        struct toucher t = { .guest = &good, .seed = 5 };
        struct ps_stats stats;
        int sock = dial_welcomed(r);

        attach(sock);
        guest_start(&good, r);
        toucher_start(&t);

        unsigned orders = flood(sock, FLOOD_NS);

        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_stats(&good, &stats);
        TEST(stats.present_bytes == stats.total_bytes);
        guest_free(&good);
        close(sock);
        printf("ok: a flood whose answers nobody reads (%u orders)\n", orders);
}

int main(void)
{
        struct rig r = { .image = { .seed = 21, .disk_bytes = DISK_BYTES, .cluster_bits = 12 } };

        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(180);
        r.image_fd = fake_image_file(&r.image);
        test_server_start(&r.server, 2);

        uint64_t start_ns = clock_now_ns();
        int silent = dial(&r);
        int welcomed = dial_welcomed(&r);
        int late = dial_welcomed(&r);

        let_go_after(silent, start_ns, HELLO_SECONDS, "no hello");
        attach(late);
        printf("ok: an attach after the time for a hello\n");
        one_by_one(&r);
        beside_a_flood(&r);
        let_go_after(welcomed, start_ns, ATTACH_SECONDS, "no attach");
        close(late);
        test_server_stop(&r.server);
        close(r.image_fd);
        return 0;
}
