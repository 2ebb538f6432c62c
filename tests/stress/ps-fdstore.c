/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: under systemd, as sd_listen_fds(3) and sd_notify(3) describe it: clients wait in
 *       the socket until the daemon is up, its caches come back to it after kill -9 and
 *       after a restart, whatever else comes with them; it does not take back what it
 *       put away when it is ended. Whose cache is gone is told so and gets the copy lane.
 * Method: the test is the service manager, with code of its own: a notify socket, a
 *       table of what was stored, and descriptors from 3 on in an order of its own. */
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
#include "tests/stress/ps-guest.h"
#include "tests/stress/ps-server.h"

#define PATIENCE_MS 60000
#define STORED_MAX 16
#define HIGH_FD 100
#define DISK_BYTES (8u << 20)

struct stored {
        char name[300];
        int fd;
};

struct manager {
        struct test_server server;              /* names only */
        char notify_path[80];
        int notify;
        int listener;
        struct stored stored[STORED_MAX];
        unsigned n;
        unsigned removed;
        unsigned ready;
        pid_t daemon;
};

static struct sockaddr_un address(const char *path)
{
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        strcpy(sa.sun_path, path);
        return sa;
}

static void manager_init(struct manager *m)
{
        struct sockaddr_un sa;

        *m = (struct manager){ .n = 0 };
        test_server_name(&m->server);
        snprintf(m->notify_path, sizeof(m->notify_path), "%s/notify", m->server.folder);
        m->notify = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sa = address(m->notify_path);
        TEST(bind(m->notify, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        m->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        sa = address(m->server.path);
        TEST(bind(m->listener, (struct sockaddr *)&sa, sizeof(sa)) == 0);
        TEST(listen(m->listener, 16) == 0);
}

/* ---- notes ---------------------------------------------------------------------- */

static void store(struct manager *m, const char *name, int fd)
{
        TEST(fd >= 0 && m->n < STORED_MAX && strlen(name) < sizeof(m->stored[0].name));
        strcpy(m->stored[m->n].name, name);
        m->stored[m->n++].fd = fcntl(fd, F_DUPFD_CLOEXEC, HIGH_FD);
        close(fd);
}

static void take_note(struct manager *m, char *text, int fd)
{
        char *name = strstr(text, "FDNAME=");

        m->ready += strstr(text, "READY=1\n") == text;
        m->removed += strstr(text, "FDSTOREREMOVE=1\n") != NULL;
        if (strstr(text, "FDSTORE=1\n")) {
                TEST(name && strstr(text, "FDPOLL=0\n"));
                name += strlen("FDNAME=");
                name[strcspn(name, "\n")] = '\0';
                store(m, name, fd);
        } else {
                TEST(fd < 0);
        }
}

static void take_notes(struct manager *m, int flags)
{
        union { struct cmsghdr align; char room[CMSG_SPACE(sizeof(int))]; } control;
        char text[1000];

        for (;;) {
                struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
                struct msghdr mh = {
                        .msg_iov = &iov, .msg_iovlen = 1,
                        .msg_control = &control, .msg_controllen = sizeof(control),
                };
                ssize_t n = recvmsg(m->notify, &mh, flags);
                int fd = -1;

                if (n < 0)
                        return;
                text[n] = '\0';
                if (CMSG_FIRSTHDR(&mh))
                        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
                take_note(m, text, fd);
                flags = MSG_DONTWAIT;
        }
}

/* ---- the service ------------------------------------------------------------------ */

static void become_daemon(const struct manager *m) __attribute__((noreturn));

/* the socket, then what is stored from the last to the first */
static void become_daemon(const struct manager *m)
{
        char names[2000] = "socket", number[20];
        char *argv[] = { (char *)"self", (char *)"--daemon", (char *)m->server.path, NULL };
        int n = 0;

        TEST(dup2(m->listener, HIGH_FD - 1) >= 0);
        dup2(HIGH_FD - 1, 3 + n++);
        for (unsigned i = m->n; i-- > 0;) {
                dup2(m->stored[i].fd, 3 + n++);
                strcat(strcat(names, ":"), m->stored[i].name);
        }
        snprintf(number, sizeof(number), "%d", n);
        setenv("LISTEN_FDS", number, 1);
        snprintf(number, sizeof(number), "%d", (int)getpid());
        setenv("LISTEN_PID", number, 1);
        setenv("LISTEN_FDNAMES", names, 1);
        setenv("NOTIFY_SOCKET", m->notify_path, 1);
        execv("/proc/self/exe", argv);
        _exit(127);
}

static void start_daemon(struct manager *m)
{
        unsigned before = m->ready;

        m->daemon = fork();
        if (m->daemon == 0)
                become_daemon(m);
        while (m->ready == before)
                take_notes(m, 0);               /* alarm() ends what never comes */
        TEST(m->ready == before + 1);
}

static void end_daemon(struct manager *m, int sig)
{
        int status;

        TEST(kill(m->daemon, sig) == 0);
        TEST(waitpid(m->daemon, &status, 0) == m->daemon);
        TEST(sig == SIGKILL || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        take_notes(m, MSG_DONTWAIT);
}

/* ---- the guest ----------------------------------------------------------------------- */

static int rejoin(const struct manager *m, struct guest *g, int map_fd, enum ps_lane lane,
                  struct err *e)
{
        struct ps_welcome w;
        const struct ps_hello h = {
                .image_fds = &g->image_fd, .nimages = 1, .image_path = "fake image",
                .lane = lane, .prefetch_rate = PS_PREFETCH_OFF,
                .cache_fd = -1, .filled_fd = -1, .map_fd = map_fd, .removed_fd = -1,
        };

        MUST(ps_client_connect(m->server.path, &g->client, e), e);

        int rc = ps_client_hello(g->client, &h, &w, e);

        if (rc < 0)
                return rc;
        TEST(w.lane == lane);
        fd_close(&w.map_fd);
        guest_attach(g, true);
        return 0;
}

static void touch_more(struct toucher *t, unsigned pages)
{
        unsigned goal = atomic_load(&t->touched) + pages;

        while (atomic_load(&t->touched) < goal)
                usleep(1000);
}

static void comes_back(struct manager *m, struct guest *g, struct toucher *t, int sig)
{
        struct err e;

        end_daemon(m, sig);
        TEST(m->removed == 0);
        guest_lose_server(g);
        start_daemon(m);
        MUST(rejoin(m, g, g->welcome.map_fd, PS_LANE_SHARED, &e), &e);
        touch_more(t, 200);
        printf("ok: the cache comes back after signal %d\n", sig);
}

static void names_are_right(const struct manager *m)
{
        char cache[100], filled[100];
        struct stat st;

        TEST(m->n == 2 && fstat(m->stored[0].fd, &st) == 0);
        snprintf(cache, sizeof(cache), "cache-%u-%llu", getuid(), (unsigned long long)st.st_ino);
        snprintf(filled, sizeof(filled), "filled-%u-%llu", getuid(),
                 (unsigned long long)st.st_ino);
        TEST(!strcmp(m->stored[0].name, cache) && !strcmp(m->stored[1].name, filled));
}

/* the daemon lost all that was stored */
static void goes_to_copy(struct manager *m, struct guest *g, struct toucher *t)
{
        struct err e;

        end_daemon(m, SIGKILL);
        guest_lose_server(g);
        while (m->n > 0)
                close(m->stored[--m->n].fd);
        start_daemon(m);
        TEST(rejoin(m, g, g->welcome.map_fd, PS_LANE_SHARED, &e) == -ESTALE);
        TEST(strstr(e.text, "copy lane"));
        guest_lose_server(g);
        MUST(rejoin(m, g, -1, PS_LANE_COPY, &e), &e);
        TEST(toucher_join(t, PATIENCE_MS) && t->wrong == 0);
        printf("ok: without its cache a guest goes on in the copy lane\n");
}

static void run(struct manager *m)
{
        struct fake_image image = {
                .seed = 31, .disk_bytes = DISK_BYTES, .cluster_bits = 12, .slow_us = 300,
        };
        struct guest g = { .image = image, .image_fd = fake_image_file(&image) };
        struct toucher t = { .guest = &g, .seed = 5 };
        struct err e;

        MUST(ps_client_connect(m->server.path, &g.client, &e), &e);
        start_daemon(m);
        guest_map(&g, PS_LANE_SHARED, PS_PREFETCH_OFF, 0);
        guest_attach(&g, false);
        printf("ok: a client waits for the daemon in the socket\n");
        take_notes(m, MSG_DONTWAIT);
        names_are_right(m);
        toucher_start(&t);
        touch_more(&t, 200);
        comes_back(m, &g, &t, SIGKILL);
        store(m, "stray", memfd_create("stray", MFD_CLOEXEC));
        store(m, "cache-0-1", memfd_create("cache-0-1", MFD_CLOEXEC));
        store(m, "filled-1-1", memfd_create("filled-1-1", MFD_CLOEXEC));
        comes_back(m, &g, &t, SIGTERM);
        goes_to_copy(m, &g, &t);
        end_daemon(m, SIGTERM);
        TEST(access(m->server.path, F_OK) == 0);        /* it is not the daemon's */
        guest_free(&g);
        close(g.image_fd);
}

int main(int argc, char **argv)
{
        struct manager m;

        setbuf(stdout, NULL);
        test_server_role(argc, argv);
        guest_need_uffd();
        alarm(120);
        manager_init(&m);
        run(&m);
        unlink(m.notify_path);
        test_server_unname(&m.server);
        return 0;
}
