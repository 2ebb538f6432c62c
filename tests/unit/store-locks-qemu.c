/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: QEMU's tools read what we have open and do not write it; what they have
 *       open for writing is neither read nor added to by us.
 * Method: the tools themselves, on an image with two snapshots. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/imglock.h"
#include "tests/unit/store-twin.h"
#include "tests/unit/suite.h"

/* for a program to start */
#define WAIT_MS 10000

/* exit status of a command with the image's path for %s */
__attribute__((format(printf, 1, 2)))
static int sh(const char *fmt, ...)
{
        char command[512];
        va_list ap;
        size_t n;

        va_start(ap, fmt);
        n = (size_t)vsnprintf(command, sizeof(command), fmt, ap);
        va_end(ap);
        ASSERT(n < sizeof(command) - 32);
        strcat(command, " >/dev/null 2>&1");

        int status = system(command);

        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* qemu-io until its standard input ends; it has the file open when we return */
static FILE *start_qemu_io(const struct twin *p, const char *mode, off_t byte)
{
        char command[2 * KIT_PATH_MAX];
        unsigned waited = 0;

        snprintf(command, sizeof(command), "qemu-io %s '%s' >/dev/null", mode, p->path);

        FILE *pipe = popen(command, "w");

        ASSERT(pipe);
        for (; !twin_taken(p, byte) && waited < WAIT_MS; waited++)
                usleep(1000);
        CU_ASSERT(waited < WAIT_MS);
        return pipe;
}

/* QEMU's tools while somebody of ours has the file open: readers work, a writer
 * is refused and leaves the file as it is. */
static void check_tools(const struct twin *p)
{
        CU_ASSERT_EQUAL(sh("qemu-img info '%s'", p->path), 0);
        CU_ASSERT_EQUAL(sh("qemu-img snapshot -l '%s'", p->path), 0);
        CU_ASSERT_NOT_EQUAL(sh("qemu-img check '%s'", p->path), 1);     /* it could look */
        CU_ASSERT_EQUAL(sh("qemu-img convert -O raw '%s' '%s/raw' && rm '%s/raw'", p->path,
                           p->folder, p->folder), 0);
        CU_ASSERT_EQUAL(sh("qemu-img snapshot -d two '%s'", p->path), 1);
        CU_ASSERT_NOT_EQUAL(sh("qemu-io -c 'write 0 4k' '%s'", p->path), 0);
}

static void qemu_tools(void)
{
        struct twin p;

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "one", NULL);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        check_tools(&p);
        qs_image_close(image);

        AUTO_FD fd = twin_open_rw(&p);

        CU_ASSERT_EQUAL(imglock_append(fd, NULL), 0);
        check_tools(&p);
        CU_ASSERT(twin_remove(&p));
}

static void qemu_io(void)
{
        struct twin p;
        struct err e = { 0 };

        twin_make(&p);

        AUTO_FD fd = twin_open_rw(&p);
        FILE *qemu = start_qemu_io(&p, "-r", 100);
        struct qs_image *image = twin_open_tag(&p, "one", &e);

        CU_ASSERT_PTR_NOT_NULL(image);
        qs_image_close(image);
        CU_ASSERT_EQUAL(imglock_append(fd, &e), 0);
        CU_ASSERT(imglock_readers(fd));
        CU_ASSERT_EQUAL(pclose(qemu), 0);
        CU_ASSERT(!imglock_readers(fd));
        fd_close(&fd);

        fd = twin_open_rw(&p);
        qemu = start_qemu_io(&p, "", 101);
        CU_ASSERT_PTR_NULL(twin_open_tag(&p, "one", &e));
        CU_ASSERT_EQUAL(e.code, -EBUSY);
        CU_ASSERT_EQUAL(imglock_append(fd, &e), -EBUSY);
        CU_ASSERT_EQUAL(pclose(qemu), 0);
        CU_ASSERT(twin_remove(&p));
}

/* a file of another program stays QEMU's way: 100 as long as it is open */
static void foreign_keeps_all(void)
{
        struct twin p;

        twin_make(&p);
        CU_ASSERT_EQUAL(sh("rm '%s' && qemu-img create -f qcow2 '%s' 1M", p.path, p.path), 0);

        struct qs_image *image = twin_open_tag(&p, NULL, NULL);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT(twin_taken(&p, 100) && twin_taken(&p, 201));
        qs_image_close(image);
        CU_ASSERT(twin_remove(&p));
}

static const CU_TestInfo cases[] = {
        { "a reader of a foreign file keeps all", foreign_keeps_all },
        { "QEMU's tools beside ours", qemu_tools },
        { "ours beside qemu-io", qemu_io },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (sh("qemu-img --version") != 0 || sh("qemu-io --version") != 0) {
                puts("skipped: no qemu-img or qemu-io");
                return SUITE_SKIP;
        }
        return suite_main("store-locks-qemu", cases);
}
