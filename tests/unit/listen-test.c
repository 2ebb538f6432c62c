/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a daemon's socket is for its user alone, whatever the umask is; nobody who locks the
 *       folder keeps a daemon from starting without end; INV-STALE.
 * Method: a folder of our own, and locks of it by another process. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/listen.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static char folder[] = "/tmp/snapback-listen.XXXXXX";
static char path[64];

static void mode_is_ours(void)
{
        static const struct {
                const char *name;
                mode_t mask;
        } rows[] = { { "no umask", 0 }, { "the usual", 022 }, { "a strict one", 077 } };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct listen_socket l;
                struct stat st;
                struct err e;
                mode_t before = umask(rows[i].mask);

                EXPECT_EQUAL(rows[i].name, listen_open(path, SOCK_STREAM, &l, &e), 0);
                EXPECT_EQUAL(rows[i].name, umask(before), rows[i].mask);
                EXPECT_TRUE(rows[i].name, lstat(path, &st) == 0 && S_ISSOCK(st.st_mode));
                EXPECT_EQUAL(rows[i].name, st.st_mode & 0777, 0600);
                listen_close(&l);
                EXPECT_TRUE(rows[i].name, lstat(path, &st) < 0);
        }
}

static void stale_ones(void)
{
        struct listen_socket l, other;
        struct stat st;
        struct err e;

        CU_ASSERT_EQUAL_FATAL(listen_open(path, SOCK_STREAM, &l, &e), 0);
        CU_ASSERT_EQUAL(listen_open(path, SOCK_STREAM, &other, &e), -EADDRINUSE);
        CU_ASSERT_EQUAL(listen_open(path, SOCK_SEQPACKET, &other, &e), -EADDRINUSE);
        fd_close(&l.fd);                        /* it died */
        CU_ASSERT_EQUAL_FATAL(listen_open(path, SOCK_STREAM, &l, &e), 0);
        CU_ASSERT_EQUAL(unlink(path), 0);       /* it is another's now */
        CU_ASSERT_EQUAL_FATAL(listen_open(path, SOCK_STREAM, &other, &e), 0);
        listen_close(&l);
        CU_ASSERT_EQUAL(lstat(path, &st), 0);
        listen_close(&other);
        CU_ASSERT_EQUAL(symlink("nowhere", path), 0);
        CU_ASSERT_EQUAL(listen_open(path, SOCK_STREAM, &l, &e), -EEXIST);
        CU_ASSERT_EQUAL(unlink(path), 0);
}

/* Somebody who may read the folder locks it for so long; the pid. */
static pid_t lock_for(unsigned ms)
{
        int ready[2];
        char byte;

        CU_ASSERT_EQUAL_FATAL(pipe(ready), 0);

        pid_t pid = fork();

        CU_ASSERT_FATAL(pid >= 0);
        if (pid == 0) {
                int fd = open(folder, O_RDONLY | O_DIRECTORY);

                if (flock(fd, LOCK_EX) < 0 || write(ready[1], "", 1) != 1)
                        _exit(1);
                usleep(ms * 1000);
                _exit(0);
        }
        close(ready[1]);
        CU_ASSERT_EQUAL_FATAL(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static void a_folder_that_is_locked(void)
{
        struct listen_socket l;
        struct err e;
        uint64_t start_ns = clock_now_ns();
        pid_t pid = lock_for(300);

        /* by one who starts */
        CU_ASSERT_EQUAL_FATAL(listen_open(path, SOCK_STREAM, &l, &e), 0);
        CU_ASSERT_TRUE(clock_now_ns() - start_ns >= 250 * NS_PER_MS);
        listen_close(&l);
        waitpid(pid, NULL, 0);

        /* by one who will not let go: the alarm is the end of a test that waits */
        pid = lock_for(60000);
        alarm(30);
        CU_ASSERT_EQUAL(listen_open(path, SOCK_STREAM, &l, &e), -EBUSY);
        alarm(0);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, folder));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "lslocks"));
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CU_ASSERT_EQUAL_FATAL(listen_open(path, SOCK_STREAM, &l, &e), 0);
        listen_close(&l);
}

static const CU_TestInfo cases[] = {
        { "the mode", mode_is_ours },
        { "stale sockets", stale_ones },
        { "a folder that is locked", a_folder_that_is_locked },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (!mkdtemp(folder))
                return 1;
        snprintf(path, sizeof(path), "%s/s", folder);

        int status = suite_main("listen", cases);

        rmdir(folder);
        return status;
}
