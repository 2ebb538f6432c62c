/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whoever comes to a Firecracker door with something else than a right handshake is
 *       hung up, whatever it is and however slow; one that is only slow is served; and
 *       nobody beside them notices, nor is a descriptor lost.
 * Method: tables of wrong handshakes against a server that serves a verifying guest of
 *       Firecracker, and one of our own protocol comes in, at the same time. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/fdpass.h"
#include "pageserver/uffd.h"
#include "tests/stress/fc-doors.h"

#define MIB (1ull << 20)
#define PATIENCE_MS 20000
#define GUEST_BYTES (4 * MIB)
/* what the server waits for a handshake, and a little less */
#define DEADLINE_MS 10000
#define EARLY_MS 9000

struct rig {
        struct fc_doors doors;
        struct fc_plan plan;
        char *ram;                      /* a guest of this process */
        int uffd;
        char hello[512];                /* that is right for it */
        size_t bytes;
};

/* ---- helpers ------------------------------------------------------------- */

static void say(int sock, const char *text, size_t bytes, const int *fds, size_t nfds)
{
        /* it may have been hung up by now */
        (void)fdpass_send(sock, text, bytes, fds, nfds);
}

static bool hangs_up(int sock, int ms)
{
        struct pollfd p = { .fd = sock, .events = POLLIN };
        char c;

        return poll(&p, 1, ms) == 1 && recv(sock, &c, 1, MSG_DONTWAIT) <= 0;
}

static void refused(int sock, const char *what)
{
        if (!hangs_up(sock, PATIENCE_MS))
                fprintf(stderr, "not hung up: %s\n", what);
        TEST(hangs_up(sock, 0));
        close(sock);
}

static void map_guest(struct rig *r)
{
        struct fc_region region;
        struct err e;

        r->ram = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
        TEST(r->ram != MAP_FAILED);
        TEST(madvise(r->ram, GUEST_BYTES, MADV_DONTFORK) == 0);
        MUST(uffd_open(UFFD_FEATURE_EVENT_REMOVE, &r->uffd, &e), &e);
        MUST(uffd_register_missing(r->uffd, (uintptr_t)r->ram, GUEST_BYTES, &e), &e);
        region = (struct fc_region){
                .hva = (uintptr_t)r->ram, .bytes = GUEST_BYTES, .page_bytes = FC_PAGE,
        };
        r->bytes = fc_message(FC_V1_12, &region, 1, r->hello, sizeof(r->hello));
}

static void unmap_guest(struct rig *r)
{
        munmap(r->ram, GUEST_BYTES);
        close(r->uffd);
}

/* ---- wrong handshakes ---------------------------------------------------- */

/* for the image of one region of 4 MiB */
static const char *const wrong[] = {
        "no JSON at all",
        "{}",
        "[]",
        "[1]",
        "[{}]",
        "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        "[{\"base_host_virt_addr\":\"4096\",\"size\":4194304,\"offset\":0}]",
        /* a part, twice, of another size, at another place */
        "[{\"base_host_virt_addr\":1073741824,\"size\":2097152,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":8388608,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":4096}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":2097152,\"offset\":0},"
        "{\"base_host_virt_addr\":1073741824,\"size\":2097152,\"offset\":2097152}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":2097152,\"offset\":0},"
        "{\"base_host_virt_addr\":1074790400,\"size\":2097152,\"offset\":2097152}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":0},"
        "{\"base_host_virt_addr\":2073741824,\"size\":4194304,\"offset\":4194304}]",
        /* huge, empty, not of pages, behind the end of all */
        "[{\"base_host_virt_addr\":4096,\"size\":18446744073709547520,\"offset\":0}]",
        "[{\"base_host_virt_addr\":4096,\"size\":70368744177664,\"offset\":0}]",
        "[{\"base_host_virt_addr\":18446744073709547520,\"size\":4194304,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":0,\"offset\":0}]",
        "[{\"base_host_virt_addr\":-4096,\"size\":4194304,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741825,\"size\":4194304,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194303,\"offset\":0}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":0,\"page_size\":3}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":0,\"page_size\":8192}]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":0}]]",
        "[{\"base_host_virt_addr\":1073741824,\"size\":4194304,\"offset\":0}] and more",
};

static void wrong_words(const struct rig *r)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                int sock = fc_dial(r->plan.socket_path);

                say(sock, wrong[i], strlen(wrong[i]), &r->uffd, 1);
                if (i == 5)                     /* it may still become an array */
                        shutdown(sock, SHUT_WR);
                refused(sock, wrong[i]);
        }
        printf("ok: %zu wrong handshakes\n", ARRAY_SIZE(wrong));
}

static void far_too_long(const struct rig *r)
{
        static char blanks[100000];
        int sock = fc_dial(r->plan.socket_path);

        memset(blanks, ' ', sizeof(blanks));
        blanks[0] = '[';
        for (size_t i = 0; i < sizeof(blanks); i += 1000)
                say(sock, blanks + i, 1000, NULL, 0);
        refused(sock, "an endless handshake");
        sock = fc_dial(r->plan.socket_path);
        say(sock, "[\0]", 3, &r->uffd, 1);
        refused(sock, "a NUL in the handshake");
        printf("ok: a handshake that does not end\n");
}

static void wrong_descriptors(const struct rig *r)
{
        int pipes[2], many[FDPASS_FDS_MAX];
        AUTO_FD raw = -1;
        int sock = fc_dial(r->plan.socket_path);

        TEST(pipe2(pipes, O_CLOEXEC) == 0);
        say(sock, r->hello, r->bytes, &pipes[0], 1);
        refused(sock, "a pipe");

        sock = fc_dial(r->plan.socket_path);
        say(sock, r->hello, r->bytes, (int[]){ r->uffd, r->uffd }, 2);
        refused(sock, "two descriptors");

        sock = fc_dial(r->plan.socket_path);
        say(sock, r->hello, 10, &r->uffd, 1);
        say(sock, r->hello + 10, r->bytes - 10, &r->uffd, 1);
        refused(sock, "two descriptors, one behind the other");

        sock = fc_dial(r->plan.socket_path);
        for (size_t i = 0; i < ARRAY_SIZE(many); i++)
                many[i] = pipes[1];
        say(sock, r->hello, r->bytes, many, ARRAY_SIZE(many));
        refused(sock, "a crowd of descriptors");

        sock = fc_dial(r->plan.socket_path);
        say(sock, r->hello, r->bytes, NULL, 0);
        shutdown(sock, SHUT_WR);
        refused(sock, "none");
        close(pipes[0]);
        close(pipes[1]);

        raw = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
        TEST(raw >= 0);
        sock = fc_dial(r->plan.socket_path);
        say(sock, r->hello, r->bytes, &raw, 1);
        refused(sock, "a userfaultfd that was not set up");
        printf("ok: wrong descriptors\n");
}

/* ---- slow ones ----------------------------------------------------------- */

static void slow_ones(const struct rig *r)
{
        static struct fc_plan plan;

        plan = r->plan;
        for (enum fc_sending how = FC_AT_ONCE; how <= FC_AND_MORE; how++) {
                plan.sending = how;
                fc_client_good(fc_client_start(&plan));
        }
        printf("ok: slow handshakes\n");
}

/* The deadline is that of the whole handshake, however busy it is. */
static void silent_ones(const struct rig *r)
{
        struct timespec moment = { .tv_nsec = 200000000 };
        uint64_t start = clock_now_ns();
        int nothing = fc_dial(r->plan.socket_path);
        int part = fc_dial(r->plan.socket_path);
        int bare = fc_dial(r->plan.socket_path);
        int trickle = fc_dial(r->plan.socket_path);

        say(part, r->hello, r->bytes / 2, &r->uffd, 1);
        say(bare, r->hello, r->bytes, NULL, 0);
        say(trickle, "[", 1, &r->uffd, 1);
        while (!hangs_up(trickle, 0)) {
                TEST(clock_now_ns() - start < PATIENCE_MS * NS_PER_MS);
                say(trickle, " ", 1, NULL, 0);
                nanosleep(&moment, NULL);
        }
        TEST(clock_now_ns() - start > EARLY_MS * NS_PER_MS);
        refused(nothing, "nothing at all");
        refused(part, "a part");
        refused(bare, "no descriptor");
        TEST(clock_now_ns() - start < 2 * DEADLINE_MS * NS_PER_MS);
        close(trickle);
        printf("ok: silent ones\n");
}

/* ---- many ---------------------------------------------------------------- */

static void thousands_in_turn(const struct rig *r)
{
        for (unsigned i = 0; i < 2000; i++) {
                int sock = fc_dial(r->plan.socket_path);

                switch (i % 4) {
                case 0:                         /* comes and goes */
                        break;
                case 1:
                        say(sock, "?", 1, NULL, 0);
                        break;
                case 2:
                        say(sock, r->hello, r->bytes / 2, &r->uffd, 1);
                        break;
                case 3:
                        say(sock, wrong[1], strlen(wrong[1]), &r->uffd, 1);
                        refused(sock, wrong[1]);
                        continue;
                }
                close(sock);
        }
        printf("ok: 2000 connections\n");
}

/* Some are let in, the rest is hung up at once; other doors are not closed by it, and who
 * was served before still is. */
static void crowd(const struct rig *r)
{
        enum { CROWD = 300 };
        int sock[CROWD];
        struct ps_client *own;
        struct err e;
        unsigned in = 0;
        pid_t before = fc_client_start_served(&r->plan);

        for (unsigned i = 0; i < CROWD; i++)
                sock[i] = fc_dial(r->plan.socket_path);
        TEST(hangs_up(sock[CROWD - 1], PATIENCE_MS));
        MUST(ps_client_connect(r->doors.server.path, &own, &e), &e);

        struct guest g = { .image = r->plan.image, .image_fd = r->doors.image_fd[0],
                           .client = own };

        guest_map(&g, PS_LANE_COPY, PS_PREFETCH_OFF, 0);
        guest_free(&g);
        for (unsigned i = 0; i < CROWD; i++) {
                in += !hangs_up(sock[i], 0);
                close(sock[i]);
        }
        TEST(in > 0 && in <= SESSIONS_MAX / 2);
        fc_client_good(before);
        printf("ok: %u at once, %u were let in\n", CROWD, in);
}

/* ---- killed -------------------------------------------------------------- */

static void killed_with_faults_pending(const struct rig *r)
{
        static struct fc_plan plan;
        struct timespec moment = { .tv_nsec = 1000000 };

        plan = r->plan;
        plan.threads = FC_THREADS_MAX;
        for (enum fc_version v = FC_V1_1; v <= FC_V1_12; v++) {
                for (unsigned i = 0; i < 5; i++) {
                        plan.version = v;

                        pid_t pid = fc_client_start_served(&plan);

                        nanosleep(&moment, NULL);
                        fc_client_kill(pid);
                        moment.tv_nsec += 3000000;
                }
        }
        printf("ok: killed with faults pending\n");
}

/* ---- beside it ----------------------------------------------------------- */

/* one guest behind the other, until told to stop */
struct siblings {
        const struct fc_plan *plan;
        pthread_t thread;
        _Atomic bool stop;
        unsigned restored;
        unsigned wrong;                 /* results */
};

static void *restore_siblings(void *arg)
{
        struct siblings *s = arg;

        while (!atomic_load(&s->stop)) {
                int status = -1;
                pid_t pid = fc_client_start(s->plan);

                waitpid(pid, &status, 0);
                s->restored++;
                s->wrong += status != 0;
        }
        return NULL;
}

static void under_attack(struct rig *r)
{
        wrong_words(r);
        far_too_long(r);
        wrong_descriptors(r);
        slow_ones(r);
        thousands_in_turn(r);
        killed_with_faults_pending(r);
        silent_ones(r);
}

int main(int argc, char **argv)
{
        static struct rig r = {
                .plan = { .version = FC_V1_12, .threads = 2, .balloon = true,
                          .memory.page_bytes = FC_PAGE,
                          .image = { .seed = 77, .cluster_bits = 12, .slow_us = 1000 } },
        };
        struct siblings siblings = { .plan = &r.plan };
        const uint64_t bytes = GUEST_BYTES;

        fc_client_role(argc, argv);
        setbuf(stdout, NULL);
        guest_need_uffd();
        alarm(300);
        fc_plan_regions(&r.plan, &bytes, 1);
        fc_image_of(&r.plan, true);
        r.doors.server.options.around_bytes = 0;
        fc_doors_open(&r.doors, &r.plan, 1, 2);
        map_guest(&r);

        unsigned before = fc_open_files();

        TEST(pthread_create(&siblings.thread, NULL, restore_siblings, &siblings) == 0);
        under_attack(&r);
        atomic_store(&siblings.stop, true);
        TEST(pthread_join(siblings.thread, NULL) == 0);
        TEST(siblings.wrong == 0 && siblings.restored > 10);
        printf("ok: %u guests noticed nothing\n", siblings.restored);
        crowd(&r);
        fc_files_come_back_to(before);
        unmap_guest(&r);
        fc_doors_close(&r.doors);
        return 0;
}
