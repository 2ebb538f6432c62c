/* SPDX-License-Identifier: Apache-2.0 */
/* Goal:   what the sandbox adds to the time from starting a private page server to its
 *         first answer, which every guest waits for that is reverted with --postcopy.
 * Method: --sandbox off and on take turns, each a new process that is sent a hello for
 *         the image. Floor of the same run: the program started for its version alone,
 *         which is exec and linking.
 * usage:  tests/bench/ps-start IMAGE ROUNDS PROGRAM...: one line for each program and way,
 *         "PROGRAM WAY p50 p10" in microseconds; then "load" and the load average.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/chan.h"
#include "tests/bench/sample.h"

#define PROGRAMS_MAX 8
#define PRIVATE_SOCK 3                  /* where a private server finds its socket */
#define PRIVATE_SOCK_HIGH 64            /* where it is before; more than files are open */

static const struct way {
        const char *name;
        char *words[4];                 /* behind the program's name */
} ways[] = {
        { "version", { (char *)"--version" } },
        { "off", { (char *)"--private", (char *)"--sandbox", (char *)"off" } },
        { "on", { (char *)"--private", (char *)"--sandbox", (char *)"on" } },
};

extern char **environ;

/* its output is not wanted, its errors are */
static pid_t start(char *program, const struct way *way, int sock)
{
        char *argv[ARRAY_SIZE(way->words) + 1] = { program };
        posix_spawn_file_actions_t files;
        pid_t pid;

        memcpy(argv + 1, way->words, sizeof(way->words));
        posix_spawn_file_actions_init(&files);
        posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_adddup2(&files, sock, PRIVATE_SOCK);

        int rc = posix_spawn(&pid, program, &files, NULL, argv, environ);

        posix_spawn_file_actions_destroy(&files);
        ASSERT(rc == 0);
        return pid;
}

static void ask(int sock, int image_fd)
{
        struct psmsg *m = calloc(1, sizeof(*m));
        int fds[FDPASS_FDS_MAX];

        ASSERT(m);
        m->type = PSMSG_HELLO;
        m->hello.nimages = 1;
        m->hello.page_bytes = PSMSG_PAGE_SMALL;
        ASSERT(chan_send(sock, m, &image_fd) == 0);
        ASSERT(chan_recv(sock, m, fds) == 0 && m->type == PSMSG_WELCOME);
        for (size_t i = 0; i < psmsg_fds(m); i++)
                close(fds[i]);
        free(m);
}

static uint64_t once(char *program, const struct way *way, int image_fd)
{
        int pair[2], status;

        ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);

        AUTO_FD ours = pair[0];
        AUTO_FD low = pair[1];
        AUTO_FD theirs = fcntl(low, F_DUPFD_CLOEXEC, PRIVATE_SOCK_HIGH);
        uint64_t start_ns = clock_now_ns();
        pid_t pid = start(program, way, theirs);

        fd_close(&theirs);
        fd_close(&low);
        if (way != &ways[0])
                ask(ours, image_fd);
        else
                waitpid(pid, &status, 0);

        uint64_t took_ns = clock_now_ns() - start_ns;

        if (way != &ways[0]) {
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
        }
        return took_ns;
}

int main(int argc, char **argv)
{
        struct sample took[PROGRAMS_MAX][ARRAY_SIZE(ways)] = { 0 };
        int programs = argc - 3;
        double load = 0;

        if (programs < 1 || programs > PROGRAMS_MAX) {
                fprintf(stderr, "usage: %s IMAGE ROUNDS PROGRAM...\n", argv[0]);
                return EXIT_FAILURE;
        }

        AUTO_FD image_fd = open(argv[1], O_RDONLY | O_CLOEXEC);

        ASSERT(image_fd >= 0);
        for (int round = atoi(argv[2]); round-- > 0;) {
                for (int p = 0; p < programs; p++) {
                        for (size_t w = 0; w < ARRAY_SIZE(ways); w++)
                                sample_add(&took[p][w], once(argv[3 + p], &ways[w], image_fd));
                }
        }
        for (int p = 0; p < programs; p++) {
                for (size_t w = 0; w < ARRAY_SIZE(ways); w++) {
                        printf("%s %s %llu %llu\n", argv[3 + p], ways[w].name,
                               (unsigned long long)sample_part(&took[p][w], 50) / 1000,
                               (unsigned long long)sample_part(&took[p][w], 10) / 1000);
                        sample_free(&took[p][w]);
                }
        }
        getloadavg(&load, 1);
        printf("load %.2f\n", load);
        return EXIT_SUCCESS;
}
