/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a client does wrong with the reader lease ends its own session, with a
 *       sentence, and harms nobody beside it: a lease without what belongs to it, two at a
 *       time, garbage, floods, closed ends. One that dies while it holds the lease leaves no
 *       thread asleep behind, on a missing page or a protected one (INV-HOLE).
 * Method: raw messages to a daemon with two workers; then a good guest must get all of its
 *         pages, and the open files of this process, which is the server's, come back. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/wire/psfault.h"
#include "pageserver/chan.h"
#include "pageserver/uffd.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"
#include "tests/stress/touch.h"

#define PATIENCE_MS 60000
#define PAGE 4096u
#define DISK_BYTES (4u << 20)
#define HOLDER_FD 4

/* ---- a client by hand ----------------------------------------------------------------- */

struct raw {
        int sock;
        int uffd;
        uint8_t *ram;
        int lease;                      /* our end */
};

static int dial(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        memcpy(sa.sun_path, path, strlen(path));
        TEST(connect(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        return sock;
}

static void hear(int sock, enum psmsg_type type, struct psmsg *m)
{
        int fds[FDPASS_FDS_MAX];

        TEST(chan_recv(sock, m, fds) == 0);
        if (m->type == PSMSG_ERROR && type != PSMSG_ERROR)
                fprintf(stderr, "%s\n", m->error.text);
        TEST(m->type == type);
        for (size_t i = 0; i < psmsg_fds(m); i++)
                close(fds[i]);
}

static void welcome(int sock, int image_fd, bool removes)
{
        static struct psmsg m;

        m = (struct psmsg){ .type = PSMSG_HELLO, .hello = {
                .lane = PSMSG_LANE_COPY, .nimages = 1, .removes = removes,
                .page_bytes = PSMSG_PAGE_SMALL } };
        TEST(chan_send(sock, &m, &image_fd) == 0);
        hear(sock, PSMSG_WELCOME, &m);
}

static void attach(int sock, int uffd, uint64_t hva)
{
        static struct psmsg m;

        m = (struct psmsg){ .type = PSMSG_ATTACH, .attach = { .nuffds = 1, .nregions = 1 } };
        m.attach.region[0] = (struct psmsg_region){ .hva = hva, .bytes = DISK_BYTES };
        TEST(chan_send(sock, &m, &uffd) == 0);
        hear(sock, PSMSG_ATTACHED, &m);
}

static void raw_memory(struct raw *r)
{
        struct err e;

        r->ram = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
        TEST(r->ram != MAP_FAILED);
        MUST(uffd_open(UFFD_PROTECT_ANONYMOUS, &r->uffd, &e), &e);
        MUST(uffd_register_protect(r->uffd, (uintptr_t)r->ram, DISK_BYTES, true, &e), &e);
}

static void raw_open(struct raw *r, const char *path, int image_fd)
{
        *r = (struct raw){ .lease = -1, .sock = dial(path) };
        raw_memory(r);
        welcome(r->sock, image_fd, false);
        attach(r->sock, r->uffd, (uintptr_t)r->ram);
}

static void raw_close(struct raw *r)
{
        fd_close(&r->sock);
        fd_close(&r->lease);
        munmap(r->ram, DISK_BYTES);
        fd_close(&r->uffd);
}

static void ask(int sock, uint64_t number, int fd)
{
        static struct psmsg m;

        m = (struct psmsg){ .type = PSMSG_LEASE, .lease = number };
        TEST(chan_send(sock, &m, &fd) == 0);
}

static void ask_lease(struct raw *r, uint64_t number)
{
        int pair[2];

        TEST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        ask(r->sock, number, pair[1]);
        close(pair[1]);
        fd_close(&r->lease);
        r->lease = pair[0];
}

static void take_lease(struct raw *r, uint64_t number)
{
        static struct psmsg m;

        ask_lease(r, number);
        do
                hear(r->sock, PSMSG_LEASED, &m);
        while (m.lease != number);
}

static void refused(struct raw *r, int code)
{
        static struct psmsg m;
        int fds[FDPASS_FDS_MAX];

        do
                TEST(chan_recv(r->sock, &m, fds) == 0);
        while (m.type == PSMSG_LEASED);
        TEST(m.type == PSMSG_ERROR);
        if (m.error.code != code)
                fprintf(stderr, "refused with %d (%s), not %d\n", m.error.code, m.error.text, code);
        TEST(m.error.code == code && strlen(m.error.text) > 0);
        TEST(chan_recv(r->sock, &m, fds) == -EPIPE);
}

static void good_guest(const struct test_server *server, const struct guest *like)
{
        struct guest g = { .image = like->image, .image_fd = like->image_fd };
        struct toucher t = { .seed = 5, .guest = &g };
        struct err e;

        MUST(ps_client_connect(server->path, &g.client, &e), &e);
        guest_map(&g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_attach(&g, false);
        toucher_start(&t);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_free(&g);
}

static void read_one(int uffd)
{
        struct uffd_msg m;
        unsigned i = 0;

        while (uffd_read(uffd, &m, sizeof(m)) == 0) {
                TEST(i++ < PATIENCE_MS);
                sleep_ms(1);
        }
}

/* ---- bad leases ------------------------------------------------------------------------- */

static void bad_asks(const char *path, int image_fd)
{
        static struct psmsg m;
        uint8_t buf[PSMSG_BYTES_MAX];
        struct raw r = { .lease = -1, .uffd = -1 };
        int pair[2];

        TEST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        raw_open(&r, path, image_fd);
        m = (struct psmsg){ .type = PSMSG_LEASE };
        TEST(fdpass_send(r.sock, buf, psmsg_encode(&m, buf), NULL, 0) == 0);
        refused(&r, -EBADMSG);          /* no descriptor */
        raw_close(&r);

        raw_open(&r, path, image_fd);
        ask(r.sock, 1, pair[0]);        /* another kind of socket */
        refused(&r, -EINVAL);
        raw_close(&r);

        raw_open(&r, path, image_fd);
        ask(r.sock, 1, r.uffd);         /* none at all */
        refused(&r, -EINVAL);
        raw_close(&r);
        close(pair[0]);
        close(pair[1]);
        printf("ok: leases without what belongs to them\n");
}

static void bad_moments(const char *path, int image_fd)
{
        struct raw r;
        struct err e;

        raw_open(&r, path, image_fd);
        take_lease(&r, 1);

        int first = r.lease;

        r.lease = -1;                   /* which stays open */
        ask_lease(&r, 2);
        refused(&r, -EBUSY);
        close(first);
        raw_close(&r);

        r = (struct raw){ .lease = -1, .uffd = -1, .sock = dial(path) };
        welcome(r.sock, image_fd, false);
        ask_lease(&r, 1);               /* before attach */
        refused(&r, -EPROTO);
        fd_close(&r.sock);
        fd_close(&r.lease);

        /* who gives memory back */
        r.sock = dial(path);
        raw_memory(&r);
        close(r.uffd);
        MUST(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &r.uffd, &e), &e);
        welcome(r.sock, image_fd, true);
        attach(r.sock, r.uffd, (uintptr_t)r.ram);
        ask_lease(&r, 1);
        refused(&r, -EINVAL);
        raw_close(&r);
        printf("ok: leases at the wrong time\n");
}

static void garbage(const char *path, int image_fd)
{
        static const struct {
                size_t bytes;
                int rc;
        } bad[] = {
                { 1, -EBADMSG }, { 8, -EFAULT }, { 12, -EBADMSG },
                { PSFAULT_BYTES_MAX, -EFAULT }, { PSFAULT_BYTES_MAX + 8, -EBADMSG },
                { 8192, -EBADMSG },
        };
        uint8_t packet[8192];

        memset(packet, 0xa5, sizeof(packet));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct raw r;

                raw_open(&r, path, image_fd);
                ask_lease(&r, 1);
                TEST(send(r.lease, packet, bad[i].bytes, 0) == (ssize_t)bad[i].bytes);
                refused(&r, bad[i].rc);
                raw_close(&r);
        }
        printf("ok: garbage in a lease\n");
}

static unsigned open_files(void)
{
        unsigned n = 0;

        for (int fd = 0; fd < 4096; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void files_come_back_to(unsigned n)
{
        for (int i = 0; open_files() > n && i < 500; i++)
                sleep_ms(10);
        TEST(open_files() <= n);
}

/* The session goes on, and the next lease is one. */
static void closed_ends(const char *path, int image_fd)
{
        struct raw r;
        struct touch t;

        raw_open(&r, path, image_fd);

        unsigned before = open_files();

        ask_lease(&r, 1);
        for (uint64_t n = 2; n < 6; n++) {
                fd_close(&r.lease);
                ask_lease(&r, n);
        }
        fd_close(&r.lease);
        touch_start(&t, r.ram, false);
        touch_join(&t);
        take_lease(&r, 7);
        TEST(send(r.lease, "", 0, 0) == 0);     /* is an end, too */
        touch_start(&t, r.ram + DISK_BYTES / 2, false);
        touch_join(&t);
        take_lease(&r, 8);
        TEST(shutdown(r.lease, SHUT_RDWR) == 0);
        touch_start(&t, r.ram + DISK_BYTES / 4, false);
        touch_join(&t);
        fd_close(&r.lease);
        files_come_back_to(before);
        raw_close(&r);
        printf("ok: leases that end before they begin, and in the middle\n");
}

/* ---- a flood ------------------------------------------------------------------------------ */

struct flood {
        struct raw raw;
        pthread_t thread;
        _Atomic bool stop;
        unsigned long packets;
};

static void *flood(void *arg)
{
        struct flood *f = arg;
        uint64_t hva[PSFAULT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(hva); i++)
                hva[i] = (uintptr_t)f->raw.ram + i * 37 * PAGE;
        while (!atomic_load(&f->stop))
                f->packets += ps_lease_pass(f->raw.lease, hva, ARRAY_SIZE(hva)) > 0;
        return NULL;
}

static void a_flood(const struct test_server *server, const struct guest *like)
{
        struct flood f = { .packets = 0 };

        raw_open(&f.raw, server->path, like->image_fd);
        take_lease(&f.raw, 1);
        TEST(pthread_create(&f.thread, NULL, flood, &f) == 0);
        good_guest(server, like);
        atomic_store(&f.stop, true);
        TEST(pthread_join(f.thread, NULL) == 0);
        TEST(f.packets > 0);
        raw_close(&f.raw);
        printf("ok: a client that passes on without pause (%lu packets)\n", f.packets);
}

/* ---- a holder that dies ---------------------------------------------------------------------- */

/* Another process: gets image and userfaultfd, takes the lease, and hangs. */
static int holder(const char *path)
{
        struct raw r = { .lease = -1, .sock = dial(path) };
        int fds[2];
        size_t n;
        uint64_t hva;

        TEST(fdpass_recv(HOLDER_FD, &hva, sizeof(hva), fds, 2, &n) == sizeof(hva) && n == 2);
        welcome(r.sock, fds[0], false);
        attach(r.sock, fds[1], hva);
        take_lease(&r, 1);
        TEST(send(HOLDER_FD, "", 1, 0) == 1);
        pause();
        return 1;
}

static pid_t start_holder(const char *path, int image_fd, const struct raw *r)
{
        uint64_t hva = (uintptr_t)r->ram;
        int fds[] = { image_fd, r->uffd };
        int pair[2];
        char ready;

        TEST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);

        pid_t pid = guest_run_self("--holder", path, pair[1]);

        close(pair[1]);
        TEST(fdpass_send(pair[0], &hva, sizeof(hva), fds, 2) == 0);
        TEST(recv(pair[0], &ready, 1, 0) == 1);
        close(pair[0]);
        return pid;
}

/* Its memory lives on, as for kernel threads that work for a dead process; ours. */
static void a_dead_holder(int image_fd)
{
        static uint8_t source[PAGE] __attribute__((aligned(4096)));
        struct test_server server;
        struct raw r = { .lease = -1, .sock = -1 };
        struct touch missing, protected;
        uint64_t at;

        test_server_name(&server);

        pid_t daemon = guest_run_self("--daemon", server.path, -1);

        test_server_await(&server);
        raw_memory(&r);
        at = (uintptr_t)r.ram + DISK_BYTES / 2;

        pid_t pid = start_holder(server.path, image_fd, &r);

        TEST(uffd_copy(r.uffd, at, source, PAGE, PAGE) == UFFD_DONE);
        TEST(uffd_protect(r.uffd, at, PAGE, true) == UFFD_DONE);
        touch_start(&protected, r.ram + DISK_BYTES / 2, true);
        touch_start(&missing, r.ram, false);
        read_one(r.uffd);               /* what the holder had read and no more */
        read_one(r.uffd);
        sleep_ms(50);
        TEST(!atomic_load(&missing.done) && !atomic_load(&protected.done));
        TEST(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
        touch_join(&missing);
        touch_join(&protected);
        TEST(kill(daemon, SIGKILL) == 0 && waitpid(daemon, NULL, 0) == daemon);
        raw_close(&r);
        test_server_unname(&server);
        printf("ok: a holder that dies\n");
}

/* ---- all ------------------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
        struct test_server server;
        struct guest like = { .image = { .seed = 12, .disk_bytes = DISK_BYTES,
                                         .cluster_bits = 12, .slow_us = 100 } };

        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        if (argc == 3 && !strcmp(argv[1], "--holder"))
                return holder(argv[2]);
        guest_need_uffd();
        alarm(120);
        like.image_fd = fake_image_file(&like.image);
        a_dead_holder(like.image_fd);
        test_server_start(&server, 2);
        good_guest(&server, &like);
        bad_asks(server.path, like.image_fd);
        bad_moments(server.path, like.image_fd);
        garbage(server.path, like.image_fd);
        closed_ends(server.path, like.image_fd);
        a_flood(&server, &like);
        good_guest(&server, &like);
        test_server_stop(&server);
        close(like.image_fd);
        return 0;
}
