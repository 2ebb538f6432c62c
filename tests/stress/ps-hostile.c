/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a client does wrong ends its own session, with a sentence, and harms
 *       nobody beside it; no descriptor is lost; INV-STALE; the limit of clients.
 * Method: a table of raw messages against a daemon that serves a good guest at the
 *       same time, whose bytes are all looked at. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/listen.h"
#include "pageserver/chan.h"
#include "pageserver/uffd.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define DISK_BYTES (4u << 20)

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

/* the answer must be ERROR with this code, and then nothing more */
static void refused(int sock, int code)
{
        static struct psmsg m;
        int fds[FDPASS_FDS_MAX];

        TEST(chan_recv(sock, &m, fds) == 0);
        TEST(m.type == PSMSG_ERROR);
        if (m.error.code != code)
                fprintf(stderr, "refused with %d (%s), not %d\n", m.error.code, m.error.text, code);
        TEST(m.error.code == code);
        TEST(strlen(m.error.text) > 0);
        TEST(chan_recv(sock, &m, fds) == -EPIPE);
        close(sock);
}

static void welcome(int sock, int image_fd, enum psmsg_lane lane, bool removes)
{
        static struct psmsg m;
        int fds[FDPASS_FDS_MAX];

        m = (struct psmsg){ .type = PSMSG_HELLO, .hello = {
                .lane = lane, .nimages = 1, .removes = removes,
                .page_bytes = PSMSG_PAGE_SMALL } };
        TEST(chan_send(sock, &m, &image_fd) == 0);
        TEST(chan_recv(sock, &m, fds) == 0);
        TEST(m.type == PSMSG_WELCOME);
        for (size_t i = 0; i < psmsg_fds(&m); i++)
                close(fds[i]);
}

/* ---- first messages ----------------------------------------------------------- */

static void bad_first_messages(const struct rig *r)
{
        static struct psmsg m;
        uint8_t buf[PSMSG_BYTES_MAX];
        int three[3] = { r->image_fd, r->image_fd, r->image_fd };
        AUTO_FD folder = open(".", O_RDONLY | O_CLOEXEC);
        int sock = dial(r);

        memset(buf, 0xa5, sizeof(buf));
        TEST(fdpass_send(sock, buf, 100, NULL, 0) == 0);
        refused(sock, -EBADMSG);

        m = (struct psmsg){ .type = PSMSG_HELLO,
                            .hello = { .nimages = 1, .page_bytes = PSMSG_PAGE_SMALL } };

        size_t n = psmsg_encode(&m, buf);

        buf[12] = PSMSG_VERSION - 1;            /* a client that was not upgraded yet */
        sock = dial(r);
        TEST(fdpass_send(sock, buf, n, &r->image_fd, 1) == 0);
        refused(sock, -EPROTONOSUPPORT);

        buf[12] = PSMSG_VERSION;                /* right, but with descriptors too many */
        sock = dial(r);
        TEST(fdpass_send(sock, buf, n, three, 3) == 0);
        refused(sock, -EBADMSG);

        sock = dial(r);                         /* and too few */
        TEST(fdpass_send(sock, buf, n, NULL, 0) == 0);
        refused(sock, -EBADMSG);

        sock = dial(r);                         /* no image */
        TEST(chan_send(sock, &m, &folder) == 0);
        refused(sock, -EBADMSG);

        m.hello.has_cache = true;               /* a daemon takes over no cache */
        sock = dial(r);
        TEST(chan_send(sock, &m, three) == 0);
        refused(sock, -EINVAL);

        m = (struct psmsg){ .type = PSMSG_RETRY };
        sock = dial(r);
        TEST(chan_send(sock, &m, NULL) == 0);
        refused(sock, -EPROTO);
        close(dial(r));
        printf("ok: bad first messages\n");
}

/* ---- attach -------------------------------------------------------------------- */

static struct psmsg good_attach(void)
{
        struct psmsg m = { .type = PSMSG_ATTACH };

        m.attach.nuffds = 1;
        m.attach.nregions = 1;
        m.attach.region[0] = (struct psmsg_region){ .hva = 1 << 30, .bytes = DISK_BYTES };
        return m;
}

static void attach_refused(const struct rig *r, const struct psmsg *m, int fd, int code)
{
        int sock = dial(r);

        welcome(sock, r->image_fd, PSMSG_LANE_COPY, false);
        TEST(chan_send(sock, m, &fd) == 0);
        refused(sock, code);
}

static void bad_attaches(const struct rig *r)
{
        static struct psmsg m;
        struct err e;
        int pipes[2], uffd;

        TEST(pipe2(pipes, O_CLOEXEC) == 0);
        MUST(uffd_open(0, &uffd, &e), &e);
        m = good_attach();
        attach_refused(r, &m, pipes[0], -EINVAL);
        m.attach.region[0].bytes += 4096;
        attach_refused(r, &m, uffd, -EINVAL);
        m = good_attach();
        m.attach.region[0].hva++;
        attach_refused(r, &m, uffd, -EINVAL);
        close(pipes[0]);
        close(pipes[1]);

        /* twice */
        int sock = dial(r);
        int fds[FDPASS_FDS_MAX];
        static struct psmsg answer;

        m = good_attach();
        welcome(sock, r->image_fd, PSMSG_LANE_SHARED, false);
        TEST(chan_send(sock, &m, &uffd) == 0);
        TEST(chan_recv(sock, &answer, fds) == 0 && answer.type == PSMSG_ATTACHED);
        TEST(chan_send(sock, &m, &uffd) == 0);
        refused(sock, -EPROTO);

        /* again, without what the server before knew of memory that was given back */
        sock = dial(r);
        welcome(sock, r->image_fd, PSMSG_LANE_COPY, true);
        m.attach.reattach = true;
        TEST(chan_send(sock, &m, &uffd) == 0);
        refused(sock, -EINVAL);
        close(uffd);
        printf("ok: bad attaches\n");
}

/* a fault outside the regions it declared: the feed is given up with a reason */
static void a_lying_client(const struct rig *r)
{
        struct guest g = { .image = r->image, .image_fd = r->image_fd };
        struct toucher t = { .guest = &g, .seed = 1 };
        struct ps_event event;
        struct err e;
        int rc;

        MUST(ps_client_connect(r->server.path, &g.client, &e), &e);
        guest_map(&g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        g.regions--;                            /* registered, but not declared */
        guest_attach(&g, false);
        g.regions++;
        toucher_start(&t);
        do
                rc = ps_client_event(g.client, &event, &e);
        while (rc == 0);
        TEST(rc == -EFAULT && strstr(e.text, "cannot be served"));
        guest_lose_server(&g);
        MUST(ps_client_connect(r->server.path, &g.client, &e), &e);
        guest_reattach(&g, PS_LANE_COPY, PS_PREFETCH_OFF);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_free(&g);
        printf("ok: a client that declares less than it registers\n");
}

/* ---- limits, socket -------------------------------------------------------------- */

static void one_client_too_many(const struct rig *r)
{
        int sock[SESSIONS_MAX + 1];
        unsigned n = 0;

        /* draining sessions of this process, which lives, hold places too */
        for (;; n++) {
                struct psmsg m;
                int fds[FDPASS_FDS_MAX];
                struct timespec moment = { .tv_nsec = 2000000 };

                TEST(n <= SESSIONS_MAX);
                sock[n] = dial(r);
                nanosleep(&moment, NULL);
                fcntl(sock[n], F_SETFL, O_NONBLOCK);

                int rc = chan_recv(sock[n], &m, fds);

                if (rc == -EAGAIN)
                        continue;
                TEST(rc == 0 && m.type == PSMSG_ERROR && m.error.code == -EBUSY);
                break;
        }
        for (unsigned i = 0; i <= n; i++)
                close(sock[i]);
        printf("ok: one client too many\n");
}

static void stale_sockets(const struct rig *r)
{
        struct listen_socket l;
        struct err e;
        char path[64];

        TEST(listen_open(r->server.path, SOCK_SEQPACKET, &l, &e) == -EADDRINUSE);
        TEST(listen_open(r->server.folder, SOCK_SEQPACKET, &l, &e) == -EEXIST);
        snprintf(path, sizeof(path), "%s/file", r->server.folder);
        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        TEST(listen_open(path, SOCK_SEQPACKET, &l, &e) == -EEXIST);
        unlink(path);

        MUST(listen_open(path, SOCK_SEQPACKET, &l, &e), &e);
        close(l.fd);                            /* as if killed */
        MUST(listen_open(path, SOCK_SEQPACKET, &l, &e), &e);
        listen_close(&l);
        TEST(access(path, F_OK) < 0);
        printf("ok: stale sockets\n");
}

/* Opens none itself: TSan takes a number that the server closes at the same time
 * for a race. */
static unsigned open_files(void)
{
        unsigned n = 0;

        for (int fd = 0; fd < 4096; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

/* the server closes in its own time */
static void files_come_back_to(unsigned n)
{
        struct timespec moment = { .tv_nsec = 10000000 };

        for (int i = 0; open_files() > n && i < 500; i++)
                nanosleep(&moment, NULL);
        TEST(open_files() <= n);
        printf("ok: no descriptor is lost\n");
}

int main(void)
{
        struct rig r = { .image = { .seed = 12, .disk_bytes = DISK_BYTES, .cluster_bits = 12,
                                    .slow_us = 3000 } };
        struct err e;

        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(120);
        r.image_fd = fake_image_file(&r.image);
        test_server_start(&r.server, 2);

        unsigned before = open_files();

        bad_first_messages(&r);
        files_come_back_to(before);

        struct guest good = { .image = r.image, .image_fd = r.image_fd };
        struct toucher t = { .guest = &good, .seed = 9 };

        MUST(ps_client_connect(r.server.path, &good.client, &e), &e);
        guest_map(&good, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_attach(&good, false);
        toucher_start(&t);
        bad_first_messages(&r);
        bad_attaches(&r);
        stale_sockets(&r);
        one_client_too_many(&r);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_free(&good);
        a_lying_client(&r);
        test_server_stop(&r.server);
        close(r.image_fd);
        return 0;
}
