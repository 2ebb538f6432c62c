/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a client does with the userfaultfds that it shares with the server stops no
 *       worker and costs no descriptor: it makes them block and takes the messages away,
 *       it forks where that is reported, it asks and never reads.
 * Method: each against a daemon with two workers; then a good guest must get all of its
 *         pages, and the open files of this process, which is the server's, come back. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/chan.h"
#include "pageserver/uffd.h"
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define DISK_BYTES (4u << 20)
#define FORKERS 4
#define THEFTS 1000
#define TEST_SECONDS 120

static void sleep_ms(unsigned ms)
{
        struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l };

        nanosleep(&t, NULL);
}

static int dial(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        memcpy(sa.sun_path, path, strlen(path));
        TEST(connect(sock, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        return sock;
}

static void start_guest(const struct test_server *server, struct guest *g, struct toucher *t)
{
        struct err e;

        MUST(ps_client_connect(server->path, &g->client, &e), &e);
        guest_map(g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_attach(g, false);
        t->guest = g;
        toucher_start(t);
}

static void good_guest(const struct test_server *server, const struct guest *like)
{
        struct guest g = { .image = like->image, .image_fd = like->image_fd };
        struct toucher t = { .seed = 5 };

        start_guest(server, &g, &t);
        TEST(toucher_join(&t, PATIENCE_MS) && t.wrong == 0);
        guest_free(&g);
}

/* ---- a descriptor that blocks --------------------------------------------------- */

/* what a worker does between being told and reading is too short to be met often */
static void reading_never_waits(void)
{
        struct uffd_msg m;
        struct err e;
        int uffd;

        MUST(uffd_open(0, &uffd, &e), &e);
        TEST(fcntl(uffd, F_SETFL, fcntl(uffd, F_GETFL) & ~O_NONBLOCK) == 0);
        alarm(10);
        TEST(uffd_read(uffd, &m, sizeof(m)) == 0);
        alarm(TEST_SECONDS);
        close(uffd);
        printf("ok: reading never waits\n");
}

static void steal(const struct guest *g)
{
        for (unsigned i = 0; i < THEFTS; i++) {
                for (unsigned u = 0; u < GUEST_UFFDS; u++) {
                        struct uffd_msg m[16];
                        int flags = fcntl(g->uffd[u], F_GETFL);

                        fcntl(g->uffd[u], F_SETFL, flags & ~O_NONBLOCK);
                        (void)uffd_read(g->uffd[u], m, sizeof(m));
                        fcntl(g->uffd[u], F_SETFL, flags | O_NONBLOCK);
                }
        }
}

/* Its own session ends as soon as the kernel says that a descriptor would block. */
static void a_thief(const struct test_server *server, const struct guest *like)
{
        struct guest g = { .image = like->image, .image_fd = like->image_fd };
        struct toucher t[3] = { { .seed = 1 }, { .seed = 2 }, { .seed = 3 } };
        struct err e;

        start_guest(server, &g, &t[0]);
        for (unsigned i = 1; i < ARRAY_SIZE(t); i++) {
                t[i].guest = &g;
                toucher_start(&t[i]);
        }
        steal(&g);
        good_guest(server, like);
        guest_lose_server(&g);
        MUST(ps_client_connect(server->path, &g.client, &e), &e);
        guest_reattach(&g, PS_LANE_COPY, PS_PREFETCH_OFF);
        for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
                TEST(toucher_join(&t[i], PATIENCE_MS) && t[i].wrong == 0);
        guest_free(&g);
        printf("ok: a client that makes its descriptors block and takes the messages\n");
}

/* ---- forks ------------------------------------------------------------------------ */

static int attach_with(int sock, int image_fd, int uffd, char *ram)
{
        static struct psmsg m;
        int fds[FDPASS_FDS_MAX];

        m = (struct psmsg){ .type = PSMSG_HELLO,
                            .hello = { .lane = PSMSG_LANE_COPY, .nimages = 1,
                                       .page_bytes = PSMSG_PAGE_SMALL } };
        if (chan_send(sock, &m, &image_fd) < 0 || chan_recv(sock, &m, fds) < 0 ||
            m.type != PSMSG_WELCOME)
                return -1;
        m = (struct psmsg){ .type = PSMSG_ATTACH, .attach = { .nuffds = 1, .nregions = 1 } };
        m.attach.region[0] = (struct psmsg_region){ .hva = (uintptr_t)ram, .bytes = DISK_BYTES };
        if (chan_send(sock, &m, &uffd) < 0 || chan_recv(sock, &m, fds) < 0)
                return -1;
        return m.type == PSMSG_ATTACHED ? 0 : -1;
}

/* a process: attaches, forks and ends; image is descriptor 4 */
static int forker(const char *path)
{
        struct err e;
        int uffd, sock;
        char *ram = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (ram == MAP_FAILED || uffd_open(UFFD_FEATURE_EVENT_FORK, &uffd, &e) < 0)
                return 77;              /* CAP_SYS_PTRACE is needed */
        sock = dial(path);
        if (uffd_register_missing(uffd, (uintptr_t)ram, DISK_BYTES, &e) < 0 ||
            attach_with(sock, 4, uffd, ram) < 0)
                return 1;

        pid_t child = fork();           /* comes back when the server has read of it */

        if (child == 0)
                _exit(0);
        return child > 0 && waitpid(child, NULL, 0) == child ? 0 : 1;
}

static unsigned open_files(void)
{
        unsigned n = 0;

        for (int fd = 0; fd < 4096; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static void some_forkers(const struct test_server *server, const struct guest *like)
{
        unsigned before = open_files();
        int status;

        for (unsigned i = 0; i < FORKERS; i++) {
                pid_t pid = guest_run_self("--forker", server->path, like->image_fd);

                TEST(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
                if (WEXITSTATUS(status) == 77) {
                        printf("skipped: forks; nobody reports them to this user\n");
                        return;
                }
                TEST(WEXITSTATUS(status) == 0);
        }
        for (int i = 0; open_files() > before && i < 500; i++)
                sleep_ms(10);
        TEST(open_files() <= before);
        printf("ok: clients that fork\n");
}

/* ---- a client that only talks ------------------------------------------------------ */

static void a_talker(const struct test_server *server, const struct guest *like)
{
        struct guest g = { .image = like->image, .image_fd = like->image_fd };
        static struct psmsg m = { .type = PSMSG_ASK_STATS };
        struct err e;
        int uffd;
        char *ram = mmap(NULL, DISK_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        AUTO_FD sock = dial(server->path);
        unsigned sent = 0;

        MUST(uffd_open(0, &uffd, &e), &e);
        MUST(uffd_register_missing(uffd, (uintptr_t)ram, DISK_BYTES, &e), &e);
        TEST(attach_with(sock, g.image_fd, uffd, ram) == 0);
        fcntl(sock, F_SETFL, O_NONBLOCK);
        for (unsigned i = 0; i < 20000; i++)
                sent += chan_send(sock, &m, NULL) == 0;
        TEST(sent > 0);
        good_guest(server, like);
        munmap(ram, DISK_BYTES);
        close(uffd);
        printf("ok: a client that asks and never reads (%u times)\n", sent);
}

int main(int argc, char **argv)
{
        struct test_server server;
        struct guest like = { .image = { .seed = 12, .disk_bytes = DISK_BYTES,
                                         .cluster_bits = 12, .slow_us = 100 } };

        if (argc == 3 && !strcmp(argv[1], "--forker"))
                return forker(argv[2]);
        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(TEST_SECONDS);
        like.image_fd = fake_image_file(&like.image);
        test_server_start(&server, 2);
        reading_never_waits();
        some_forkers(&server, &like);
        a_talker(&server, &like);
        a_thief(&server, &like);
        good_guest(&server, &like);
        test_server_stop(&server);
        close(like.image_fd);
        return 0;
}
