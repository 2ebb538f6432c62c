/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whole reads and writes are whole, or say with an errno why not.
 * Method: files, pipes and devices that end early, fail or are full; a peer
 *         thread that moves a few bytes at a time and interrupts the call with
 *         signals, so that short counts and EINTR both happen. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

/* more than a pipe holds (64 KiB), and not a multiple of any piece */
#define LONG_BYTES (300 * 1000 + 7)

static int temp_file(void)
{
        FILE *f = tmpfile();

        CU_ASSERT_PTR_NOT_NULL_FATAL(f);

        int fd = dup(fileno(f));

        fclose(f);
        CU_ASSERT_TRUE_FATAL(fd >= 0);
        return fd;
}

static void pattern_fill(unsigned char *p, size_t bytes)
{
        for (size_t i = 0; i < bytes; i++)
                p[i] = (unsigned char)(i * 31 + (i >> 8));
}

static bool pattern_holds(const unsigned char *p, size_t bytes)
{
        for (size_t i = 0; i < bytes; i++)
                if (p[i] != (unsigned char)(i * 31 + (i >> 8)))
                        return false;
        return true;
}

static void positioned(void)
{
        AUTO_FD fd = temp_file();
        char buf[4] = "";

        CU_ASSERT_EQUAL(io_pwrite_full(fd, "abcd", 4, 5ull << 32), 0);
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 4, 5ull << 32), 0);
        CU_ASSERT_EQUAL(memcmp(buf, "abcd", 4), 0);
        CU_ASSERT_EQUAL(lseek(fd, 0, SEEK_CUR), 0);
        CU_ASSERT_EQUAL(lseek(fd, 0, SEEK_END), (off_t)(5ull << 32) + 4);
        /* a hole before the end is data */
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 4, 0), 0);
        CU_ASSERT_EQUAL(memcmp(buf, "\0\0\0\0", 4), 0);
}

static void early_end(void)
{
        AUTO_FD fd = temp_file();
        char buf[8];

        CU_ASSERT_EQUAL(io_pwrite_full(fd, "abcd", 4, 0), 0);
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 5, 0), -ENODATA);
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 1, 4), -ENODATA);
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 0, 100), 0);
        CU_ASSERT_EQUAL(io_read_full(fd, buf, 4), 0);
        CU_ASSERT_EQUAL(io_read_full(fd, buf, 1), -ENODATA);
        CU_ASSERT_EQUAL(io_read_full(fd, buf, 0), 0);
}

static void errno_comes_back(void)
{
        AUTO_FD dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        AUTO_FD full = open("/dev/full", O_RDWR | O_CLOEXEC);
        AUTO_FD fd = temp_file();
        char buf[4] = "";
        char *data = NULL;
        size_t bytes = 0;

        CU_ASSERT_TRUE(dir >= 0 && full >= 0);
        CU_ASSERT_EQUAL(io_pread_full(dir, buf, 4, 0), -EISDIR);
        CU_ASSERT_EQUAL(io_read_full(dir, buf, 4), -EISDIR);
        CU_ASSERT_EQUAL(io_read_all(dir, 10, &data, &bytes), -EISDIR);
        CU_ASSERT_EQUAL(io_write_full(full, buf, 4), -ENOSPC);
        CU_ASSERT_EQUAL(io_pwrite_full(full, buf, 4, 0), -ENOSPC);
        CU_ASSERT_EQUAL(io_pread_full(fd, buf, 4, UINT64_MAX), -EINVAL);
        CU_ASSERT_EQUAL(io_pwrite_full(fd, buf, 4, UINT64_MAX), -EINVAL);
        CU_ASSERT_EQUAL(io_read_full(-1, buf, 4), -EBADF);
        CU_ASSERT_EQUAL(io_write_full(-1, buf, 4), -EBADF);
        CU_ASSERT_PTR_NULL(data);
        CU_ASSERT_EQUAL(bytes, 0);
}

static void nobody_reads(void)
{
        int p[2];

        CU_ASSERT_EQUAL_FATAL(pipe(p), 0);
        close(p[0]);
        CU_ASSERT_EQUAL(io_write_full(p[1], "x", 1), -EPIPE);
        close(p[1]);
}

static void on_signal(int sig)
{
        (void)sig;
}

/* The other end of a pipe: moves LONG_BYTES in odd pieces, and before each
 * piece interrupts the main thread, which is most likely blocked then. */
struct peer {
        pthread_t main_thread;
        int fd;
        bool writes;
        bool failed;
        unsigned char data[LONG_BYTES];
};

static void *peer_main(void *arg)
{
        struct peer *peer = arg;
        size_t done = 0;
        size_t piece = 1;

        while (done < LONG_BYTES) {
                size_t n = MIN(piece, LONG_BYTES - done);

                usleep(200);
                pthread_kill(peer->main_thread, SIGUSR1);

                ssize_t moved = peer->writes ? write(peer->fd, peer->data + done, n) :
                                               read(peer->fd, peer->data + done, n);

                if (moved <= 0) {
                        peer->failed = true;
                        break;
                }
                done += (size_t)moved;
                piece = piece * 3 % 16381 + 1;
        }
        close(peer->fd);
        return NULL;
}

/* Runs call(our end, data) against a peer that does the opposite. */
static void against_peer(bool peer_writes, int (*call)(int fd, unsigned char *data))
{
        AUTO_FREE struct peer *peer = calloc(1, sizeof(*peer));
        AUTO_FREE unsigned char *data = calloc(1, LONG_BYTES);
        struct sigaction interrupt = { .sa_handler = on_signal };   /* no SA_RESTART */
        struct sigaction before;
        pthread_t thread;
        int p[2];

        CU_ASSERT_TRUE_FATAL(peer && data && pipe(p) == 0);
        sigaction(SIGUSR1, &interrupt, &before);
        peer->main_thread = pthread_self();
        peer->writes = peer_writes;
        peer->fd = p[peer_writes];
        pattern_fill(peer_writes ? peer->data : data, LONG_BYTES);
        CU_ASSERT_EQUAL_FATAL(pthread_create(&thread, NULL, peer_main, peer), 0);

        CU_ASSERT_EQUAL(call(p[!peer_writes], data), 0);
        close(p[!peer_writes]);
        pthread_join(thread, NULL);
        sigaction(SIGUSR1, &before, NULL);

        CU_ASSERT_FALSE(peer->failed);
        CU_ASSERT_TRUE(pattern_holds(peer_writes ? data : peer->data, LONG_BYTES));
}

static int call_read_full(int fd, unsigned char *data)
{
        return io_read_full(fd, data, LONG_BYTES);
}

static int call_write_full(int fd, unsigned char *data)
{
        return io_write_full(fd, data, LONG_BYTES);
}

static int call_read_all(int fd, unsigned char *data)
{
        AUTO_FREE char *all = NULL;
        size_t bytes = 0;
        int rc = io_read_all(fd, LONG_BYTES, &all, &bytes);

        if (rc == 0 && bytes == LONG_BYTES)
                memcpy(data, all, bytes);
        return rc;
}

static void interrupted(void)
{
        against_peer(true, call_read_full);
        against_peer(false, call_write_full);
        against_peer(true, call_read_all);
}

static void read_all_limits(void)
{
        static const struct {
                const char *row;
                size_t bytes, max;
                int rc;
        } rows[] = {
                { "empty", 0, 0, 0 },
                { "exactly the limit", 100, 100, 0 },
                { "one byte more", 101, 100, -EFBIG },
                { "more than one growth of the buffer", LONG_BYTES, LONG_BYTES, 0 },
                { "a full buffer at the end", 65536, 65536, 0 },
                { "long and over", LONG_BYTES, LONG_BYTES - 1, -EFBIG },
        };
        AUTO_FREE unsigned char *pattern = malloc(LONG_BYTES);

        CU_ASSERT_PTR_NOT_NULL_FATAL(pattern);
        pattern_fill(pattern, LONG_BYTES);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_FD fd = temp_file();
                AUTO_FREE char *data = NULL;
                size_t bytes = 4711;

                EXPECT_EQUAL(rows[i].row, io_pwrite_full(fd, pattern, rows[i].bytes, 0), 0);
                EXPECT_EQUAL(rows[i].row, io_read_all(fd, rows[i].max, &data, &bytes), rows[i].rc);
                if (rows[i].rc < 0) {
                        EXPECT_TRUE(rows[i].row, !data && bytes == 4711);
                        continue;
                }
                EXPECT_EQUAL(rows[i].row, bytes, rows[i].bytes);
                EXPECT_TRUE(rows[i].row, memcmp(data, pattern, bytes) == 0 && !data[bytes]);
        }
}

static const CU_TestInfo cases[] = {
        { "positions are taken, beyond 4 GiB too", positioned },
        { "an early end is ENODATA", early_end },
        { "every other failure is its errno", errno_comes_back },
        { "a pipe nobody reads is EPIPE", nobody_reads },
        { "short counts and signals are not seen", interrupted },
        { "io_read_all keeps its limit and ends with NUL", read_all_limits },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        signal(SIGPIPE, SIG_IGN);
        return suite_main("io", cases);
}
