/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: streams survive that the device stands still, whenever; a guest that goes on from another
 *   moment or boots again has none and can make new ones; the socket file comes and goes with
 *   the device and takes nobody else's place.
 * Method: as virtio-vsock-test; what the bus calls is called by hand (vsock-loop.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/vsock-loop.h"
#include "tests/unit/vsock-peer.h"
#include "vmm/unixsock.h"
#include "vmm/virtio/vsock.h"

static struct vsock_guest g;

static void down(void)
{
        CU_ASSERT_EQUAL(g.wrong, 0);
        CU_ASSERT_EQUAL(g.broken, 0);
        vsock_guest_down(&g);
}

/* What of guest memory the device writes: its rings' used parts. */
static uint16_t used_idx(unsigned queue)
{
        return g.dev->queue[queue].used->idx;
}

/* INV-STILL: the host goes on and the loop turns, but guest memory is left alone. */
static void stand_still(int fd, struct peer_flow *up, struct peer_flow *back)
{
        uint16_t before[3];

        vsock_loop_drain(g.loop, g.dev);
        for (unsigned q = 0; q < 3; q++)
                before[q] = used_idx(q);
        for (unsigned i = 0; i < 20; i++) {
                peer_push(fd, up, UINT64_MAX / 2);
                peer_pull(fd, back, 3000);
                vsock_guest_turn(&g, 0);
        }
        for (unsigned q = 0; q < 3; q++)
                CU_ASSERT_EQUAL(used_idx(q), before[q]);
        vsock_loop_resume(g.loop, g.dev);
}

static void standing_still_loses_nothing(void)
{
        struct peer_flow up = { .seed = 1 }, back = { .seed = 2 };
        const uint64_t total = 3u << 20;
        struct vsock_stream *s;
        unsigned stops = 0;

        vsock_guest_up(&g, 16384, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        for (unsigned i = 0; i < 1000000 && (up.heard < total || back.heard < total); i++) {
                peer_push(fd, &up, UINT64_MAX / 2);
                vsock_guest_turn(&g, 0);
                vsock_guest_look(&g);
                peer_guest_pull(&g, s, &up);
                peer_guest_push(&g, s, &back, UINT64_MAX / 2);
                if (i % 3 == 0) {
                        stand_still(fd, &up, &back);
                        stops++;
                }
                vsock_guest_turn(&g, 0);
                peer_pull(fd, &back, 7000);
        }
        CU_ASSERT(up.heard >= total && back.heard >= total && stops > 20);
        CU_ASSERT(!up.wrong && !back.wrong);
        close(fd);
        down();
}

static void clients_wait_for_a_guest_that_stands_still(void)
{
        vsock_guest_up(&g, 4096, true);
        vsock_loop_drain(g.loop, g.dev);

        int fd = peer_connect(g.path);

        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "CONNECT 7\n"));
        for (unsigned i = 0; i < 20; i++)
                vsock_guest_turn(&g, 1);
        EXPECT_TEXT("not yet", peer_heard(fd), "");
        vsock_loop_resume(g.loop, g.dev);
        vsock_guest_run(&g);
        EXPECT_TEXT("now", peer_heard(fd), "OK 1073741824\n");
        close(fd);
        down();
}

/* What the bus does to give a device another state. */
static void go_back(void)
{
        struct err e;

        vsock_loop_stop(g.loop, g.dev);
        memset(g.dev->config, 0xee, g.dev->config_bytes);       /* another cid was saved */
        CU_ASSERT_EQUAL(g.dev->class->apply(g.dev, NULL, &e), 0);
        CU_ASSERT_EQUAL(get_le64(g.dev->config), GUEST_CID);
        vsock_guest_drive(&g, true);
        vsock_loop_start(g.loop, g.dev);
}

static void another_moment_has_no_streams(void)
{
        struct vsock_stream *s, *t;

        vsock_guest_up(&g, 4096, true);

        int fd = peer_join(&g, 1, &s);

        CU_ASSERT_FATAL(fd >= 0);
        go_back();
        EXPECT_TEXT("the host knows", peer_heard(fd), "EOF");
        close(fd);
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(g.events, 1);
        CU_ASSERT_EQUAL(g.refused, 0);

        /* the guest's old stream is nobody's */
        CU_ASSERT_EQUAL(vsock_stream_write(&g, s, "x", 1), 1);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset);

        fd = peer_join(&g, 2, &t);
        CU_ASSERT(fd >= 0);
        close(fd);
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(g.events, 1);
        down();
}

/* INV-RESET */
static void nothing_is_said_before_the_guest_has_reset(void)
{
        vsock_guest_up(&g, 4096, true);
        go_back();

        int fd = peer_connect(g.path);

        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "CONNECT 7\n"));
        for (unsigned i = 0; i < 20; i++)
                vsock_guest_turn(&g, 2);
        CU_ASSERT_EQUAL(used_idx(GUEST_RX), 0);
        CU_ASSERT_EQUAL(used_idx(GUEST_EVENT), 1);
        vsock_guest_look(&g);                   /* gives the event's buffer back */
        CU_ASSERT_EQUAL(g.events, 1);
        for (unsigned i = 0; i < 20 && used_idx(GUEST_RX) == 0; i++)
                vsock_guest_turn(&g, 5);
        CU_ASSERT_EQUAL(used_idx(GUEST_RX), 1);
        vsock_guest_run(&g);
        EXPECT_TEXT("then it is", peer_heard(fd), "OK 1073741824\n");
        close(fd);
        down();
}

/* A driver that does not answer events is waited for, but not for ever. */
static void a_guest_that_takes_no_event(void)
{
        vsock_guest_up(&g, 4096, true);
        go_back();

        uint64_t began_ns = clock_now_ns();
        int fd = peer_connect(g.path);

        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "CONNECT 7\n"));
        while (used_idx(GUEST_RX) == 0 && clock_now_ns() < began_ns + 10 * NS_PER_SEC)
                vsock_guest_turn(&g, 2);
        CU_ASSERT_EQUAL(used_idx(GUEST_RX), 1);
        CU_ASSERT(clock_now_ns() >= began_ns + 900 * NS_PER_MS);
        close(fd);
        vsock_guest_run(&g);
        down();
}

static void a_driver_that_resets(void)
{
        struct vsock_stream *s;

        vsock_guest_up(&g, 4096, true);

        unsigned fds = expect_open_fds();
        int fd = peer_join(&g, 1, &s);
        int half = peer_connect(g.path);

        CU_ASSERT_FATAL(fd >= 0 && half >= 0 && peer_say(half, "CONN"));
        vsock_guest_run(&g);
        vsock_loop_stop(g.loop, g.dev);
        EXPECT_TEXT("the stream", peer_heard(fd), "EOF");
        EXPECT_TEXT("a greeting", peer_heard(half), "EOF");
        close(fd);
        close(half);
        CU_ASSERT_EQUAL(expect_open_fds(), fds);

        fd = peer_connect(g.path);              /* waits for the next driver */
        CU_ASSERT_FATAL(fd >= 0 && peer_say(fd, "CONNECT 3\n"));
        vsock_guest_drive(&g, false);
        vsock_loop_start(g.loop, g.dev);
        vsock_guest_run(&g);
        CU_ASSERT(strncmp(peer_heard(fd), "OK ", 3) == 0);
        CU_ASSERT_EQUAL(g.events, 0);
        close(fd);
        down();
}

/* ---- the socket file ------------------------------------------------------------------ */

static int try_new(const char *path, uint32_t cid, struct err *e)
{
        const struct virtio_vsock_options o = { .name = "v", .cid = cid, .path = path };
        struct virtio_device *dev;
        int rc = virtio_vsock_new(&o, &dev, e);

        if (rc == 0)
                dev->class->free(dev);
        return rc;
}

static void the_file_is_ours_alone(void)
{
        char path[64], file[80];
        struct stat st;
        struct err e;

        vsock_guest_up(&g, 4096, true);
        snprintf(path, sizeof(path), "%s", g.path);
        snprintf(file, sizeof(file), "%s.file", g.path);
        CU_ASSERT(stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600);
        CU_ASSERT_EQUAL(try_new(path, 3, &e), -EADDRINUSE);
        CU_ASSERT(strstr(e.text, path) && strstr(e.text, "--vsock PATH"));
        vsock_guest_run(&g);
        down();
        CU_ASSERT(stat(path, &st) < 0 && errno == ENOENT);

        int fd;

        /* one that died left it */
        CU_ASSERT_EQUAL_FATAL(unixsock_listen(path, SOCK_STREAM, &fd, &e), 0);
        close(fd);
        CU_ASSERT_EQUAL(try_new(path, 3, &e), 0);
        CU_ASSERT(stat(path, &st) < 0);

        fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        close(fd);
        CU_ASSERT_EQUAL(try_new(file, 3, &e), -EEXIST);
        CU_ASSERT_EQUAL(unlink(file), 0);
}

/* Somebody took the path while we ran: it is his. */
static void a_file_of_another_stays(void)
{
        char path[64];
        struct stat st;
        struct err e;
        int fd;

        vsock_guest_up(&g, 4096, true);
        snprintf(path, sizeof(path), "%s", g.path);
        unlink(path);
        CU_ASSERT_EQUAL_FATAL(unixsock_listen(path, SOCK_STREAM, &fd, &e), 0);
        down();
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        close(fd);
        unlink(path);
}

static void options_that_are_refused(void)
{
        char path[109];
        struct err e;

        memset(path, 'x', sizeof(path));
        memcpy(path, "/tmp/", 5);
        path[108] = '\0';
        CU_ASSERT_EQUAL(try_new(path, 3, &e), -ENAMETOOLONG);
        path[97] = '\0';
        CU_ASSERT_EQUAL(try_new(path, 3, &e), -ENAMETOOLONG);
        path[96] = '\0';
        CU_ASSERT_EQUAL(try_new(path, 3, &e), 0);
        CU_ASSERT_EQUAL(try_new("", 3, &e), 0);
        CU_ASSERT_EQUAL(try_new("/tmp/nowhere-at-all/v", 3, &e), -ENOENT);
        CU_ASSERT_EQUAL(try_new("/tmp/v", 2, &e), -EINVAL);
        CU_ASSERT_EQUAL(try_new("/tmp/v", UINT32_MAX, &e), -EINVAL);
        CU_ASSERT(strstr(e.text, "cid=N") != NULL);
}

/* Whether the guest gets to port 7, where somebody listens. */
static bool reaches(int server)
{
        struct vsock_stream *s = vsock_guest_connect(&g, 7);
        AUTO_FD fd = -1;

        vsock_guest_run(&g);
        fd = peer_accept(server);
        CU_ASSERT(fd >= 0 ? s->open : s->reset);
        return fd >= 0;
}

/* INV-NO-LINK: nobody who may write to the folder leads the guest to another socket. */
static void servers_of_no_links(void)
{
        char real[80], at[80];
        struct stat st;
        int server;

        vsock_guest_up(&g, 4096, true);
        snprintf(real, sizeof(real), "%s_real", g.path);
        snprintf(at, sizeof(at), "%s_7", g.path);
        CU_ASSERT_EQUAL_FATAL(unixsock_listen(real, SOCK_STREAM, &server, NULL), 0);
        CU_ASSERT_EQUAL(symlink(real, at), 0);
        CU_ASSERT_FALSE(reaches(server));
        unlink(at);
        CU_ASSERT_EQUAL(mknod(at, S_IFREG | 0600, 0), 0);
        CU_ASSERT_FALSE(reaches(server));
        CU_ASSERT_EQUAL(rename(real, at), 0);
        CU_ASSERT_TRUE(reaches(server));
        if (geteuid() == 0 && stat("/tmp", &st) == 0 && st.st_uid == 0) {
                CU_ASSERT_EQUAL(chown(at, 65534, 65534), 0);
                CU_ASSERT_FALSE(reaches(server));
                CU_ASSERT_EQUAL(chown(at, 0, 0), 0);
        }
        unlink(at);
        close(server);
        down();
}

static uint64_t counter(const char *key)
{
        AUTO_JSON *o = json_object_new_object();
        uint64_t n = UINT64_MAX;

        g.dev->class->describe(g.dev, o);
        CU_ASSERT_EQUAL(json_take_u64(o, key, UINT64_MAX, &n, NULL), 0);
        return n;
}

static void what_is_counted(void)
{
        struct vsock_stream *s;
        int fd;

        vsock_guest_up(&g, 4096, true);
        fd = peer_join(&g, 5, &s);
        CU_ASSERT_FATAL(fd >= 0);
        CU_ASSERT_EQUAL(counter("connections"), 1);
        CU_ASSERT(peer_say(fd, "hello"));
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(counter("to_guest_bytes"), 5);
        CU_ASSERT_EQUAL(vsock_stream_write(&g, s, "bye", 3), 3);
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(counter("to_host_bytes"), 3);
        (void)vsock_guest_connect(&g, 99);              /* nobody is there */
        vsock_guest_run(&g);
        CU_ASSERT_EQUAL(counter("refused"), 1);
        close(fd);
        vsock_guest_run(&g);
        down();
}

/* A clone whose host side was left out: the guest's device works, nobody answers. */
static void unplugged(void)
{
        const struct virtio_vsock_options o = { .name = "v", .cid = GUEST_CID, .path = "" };
        struct virtio_device *plugged;
        struct vsock_stream *s;
        struct err e;

        vsock_guest_up(&g, 4096, true);
        vsock_loop_stop(g.loop, g.dev);
        plugged = g.dev;
        CU_ASSERT_EQUAL_FATAL(virtio_vsock_new(&o, &g.dev, &e), 0);
        g.dev->loop = g.loop;
        vsock_guest_drive(&g, true);
        vsock_loop_start(g.loop, g.dev);
        s = vsock_guest_connect(&g, 5);
        vsock_guest_run(&g);
        CU_ASSERT(s->reset && !s->open);
        plugged->class->free(plugged);
        down();
}

static const CU_TestInfo cases[] = {
        { "standing still loses nothing", standing_still_loses_nothing },
        { "clients wait meanwhile", clients_wait_for_a_guest_that_stands_still },
        { "another moment has no streams", another_moment_has_no_streams },
        { "first the reset, then the rest", nothing_is_said_before_the_guest_has_reset },
        { "a guest that takes no event", a_guest_that_takes_no_event },
        { "a driver that resets", a_driver_that_resets },
        { "the file is ours alone", the_file_is_ours_alone },
        { "a file of another stays", a_file_of_another_stays },
        { "options that are refused", options_that_are_refused },
        { "what is counted", what_is_counted },
        { "servers, and no links to some", servers_of_no_links },
        { "unplugged", unplugged },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-vsock-life", cases);
}
