/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whoever must not work on a file at the same time is refused with the
 *       right sentence, everybody else is not; a file that is changed all the
 *       time opens, always at a state that was published.
 * Method: an image with two snapshots, each actor with an open of its own; QEMU's
 *         bytes (store-locks-qemu.c has its tools); a process that switches
 *         sector 0 back and forth; a kernel without locks (seccomp). */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imglock.h"
#include "tests/unit/store-twin.h"
#include "tests/unit/suite.h"

#define OPENS 10000

static int set_byte(int fd, short type, off_t byte)
{
        struct flock l = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        return fcntl(fd, F_OFD_SETLK, &l);
}

static void reader_keeps_its_tag(void)
{
        struct twin p;

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "two", NULL);
        AUTO_FD other = kit_open(p.path);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT(!twin_taken(&p, 100) && twin_taken(&p, 201) && !twin_taken(&p, 203));
        CU_ASSERT(twin_taken(&p, TWIN_TAG_BYTE(2)) && !twin_taken(&p, TWIN_TAG_BYTE(1)));
        CU_ASSERT(!imglock_readers(other));
        qs_image_close(image);
        CU_ASSERT(!twin_taken(&p, 201) && !twin_taken(&p, TWIN_TAG_BYTE(2)));
        CU_ASSERT(twin_remove(&p));
}

/* the list is read and that is all */
static void list_keeps_nothing(void)
{
        struct twin p;
        struct qs_snapshot_info *list;
        size_t n;

        twin_make(&p);

        AUTO_FD fd = kit_open(p.path);

        CU_ASSERT_EQUAL_FATAL(qs_snapshot_list(fd, p.path, &list, &n, NULL), 0);
        CU_ASSERT(n == 2 && list[0].is_default && !list[1].is_default);
        CU_ASSERT(!twin_taken(&p, 100));
        free(list);
        CU_ASSERT(twin_remove(&p));
}

static void see_reader(void *ctx, const char *text)
{
        const struct twin **p = ctx;

        (void)text;
        if (*p && twin_taken(*p, 100) && !twin_taken(*p, TWIN_TAG_BYTE(1)))
                *p = NULL;
}

/* A checker reads all of the file (INV-HEADER). */
static void check_keeps_all(void)
{
        struct twin p;
        const struct twin *seen = &p;
        struct qs_check_report report;

        twin_make(&p);          /* its refcounts are wrong: there are findings */

        AUTO_FD fd = kit_open(p.path);

        CU_ASSERT_EQUAL(qs_check(fd, p.path, false, see_reader, &seen, NULL, NULL, &report,
                                 NULL), 0);
        CU_ASSERT_PTR_NULL(seen);
        CU_ASSERT(!twin_taken(&p, 100));
        CU_ASSERT(twin_remove(&p));
}

/* What is not ours to know keeps all locked. */
static void changed_keeps_all(void)
{
        struct twin p;

        twin_make(&p);
        p.sector[0][87] |= 1;           /* a compatible bit that is not ours */
        twin_write(&p, p.sector[0], LAYOUT_SECTOR_BYTES, 0);

        struct qs_image *image = twin_open_tag(&p, "one", NULL);
        AUTO_FD other = kit_open(p.path);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT(twin_taken(&p, 201) && imglock_readers(other));
        qs_image_close(image);
        CU_ASSERT(!imglock_readers(other));
        CU_ASSERT(twin_remove(&p));
}

static void delete_and_readers(void)
{
        struct twin p;
        struct err e = { 0 };

        twin_make(&p);

        struct qs_image *image = twin_open_tag(&p, "one", NULL);
        AUTO_FD fd = twin_open_rw(&p);

        CU_ASSERT_PTR_NOT_NULL_FATAL(image);
        CU_ASSERT_EQUAL(imglock_append(fd, NULL), 0);
        CU_ASSERT_EQUAL(imglock_delete(fd, 1, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "the snapshot is in use"));
        CU_ASSERT_EQUAL(imglock_delete(fd, 2, &e), 0);

        /* INV-TAG: what is being deleted does not open, the others do */
        CU_ASSERT_PTR_NULL(twin_open_tag(&p, "two", &e));
        CU_ASSERT_EQUAL(e.code, -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "snapshot 'two': the snapshot is being deleted"));

        struct qs_image *again = twin_open_tag(&p, NULL, NULL);

        CU_ASSERT_PTR_NOT_NULL_FATAL(again);
        CU_ASSERT_STRING_EQUAL(qs_image_info(again)->tag, "one");
        qs_image_close(image);
        CU_ASSERT_EQUAL(imglock_delete(fd, 1, &e), -EBUSY);
        qs_image_close(again);
        CU_ASSERT_EQUAL(imglock_delete(fd, 1, &e), 0);
        fd_close(&fd);
        image = twin_open_tag(&p, "two", NULL);
        CU_ASSERT_PTR_NOT_NULL(image);
        qs_image_close(image);
        CU_ASSERT(twin_remove(&p));
}

/* 100 stays until the snapshot's byte is there, and comes back to be tried again. */
static void tag_by_hand(void)
{
        struct twin p;
        struct err e = { 0 };

        twin_make(&p);

        AUTO_FD deleter = twin_open_rw(&p);
        AUTO_FD reader = kit_open(p.path);

        CU_ASSERT_EQUAL(imglock_delete(deleter, 7, NULL), 0);
        CU_ASSERT_EQUAL(imglock_read(reader, NULL), 0);
        CU_ASSERT_EQUAL(imglock_tag(reader, 7, &e), -EAGAIN);
        CU_ASSERT(imglock_readers(deleter));
        fd_close(&deleter);
        CU_ASSERT_EQUAL(imglock_tag(reader, 7, &e), 0);
        CU_ASSERT(!twin_taken(&p, 100) && twin_taken(&p, TWIN_TAG_BYTE(7)) && twin_taken(&p, 201));
        CU_ASSERT_EQUAL(imglock_read(reader, NULL), 0);
        CU_ASSERT_EQUAL(imglock_tag(reader, UINT32_MAX, &e), 0);
        CU_ASSERT(twin_taken(&p, TWIN_TAG_BYTE(7)));
        CU_ASSERT(twin_taken(&p, TWIN_TAG_BYTE(UINT32_MAX % (1u << 30))));
        CU_ASSERT(twin_remove(&p));
}

static void appenders(void)
{
        struct twin p;
        struct err e = { 0 };

        twin_make(&p);

        AUTO_FD a = twin_open_rw(&p);
        AUTO_FD b = twin_open_rw(&p);
        AUTO_FD readonly = kit_open(p.path);

        CU_ASSERT_EQUAL(imglock_append(a, &e), 0);
        CU_ASSERT(!imglock_readers(a) && twin_taken(&p, 203));
        CU_ASSERT_EQUAL(imglock_append(b, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "another program is adding to it"));
        CU_ASSERT_EQUAL(imglock_append(readonly, &e), -EBADF);

        /* readers of all kinds come and go meanwhile */
        struct qs_image *image = twin_open_tag(&p, NULL, NULL);

        CU_ASSERT_PTR_NOT_NULL(image);
        qs_image_close(image);
        CU_ASSERT_EQUAL(set_byte(readonly, F_RDLCK, 100), 0);
        CU_ASSERT(imglock_readers(a));
        CU_ASSERT_EQUAL(set_byte(readonly, F_UNLCK, 100), 0);
        CU_ASSERT(!imglock_readers(a));
        /* 'qemu-img info' has nothing else */
        CU_ASSERT_EQUAL(set_byte(readonly, F_RDLCK, 203), 0);
        CU_ASSERT(imglock_readers(a));
        fd_close(&a);
        CU_ASSERT_EQUAL(imglock_append(b, &e), 0);
        CU_ASSERT(twin_remove(&p));
}

static void qemu_writes(void)
{
        static const off_t bytes[] = { 101, 103 };
        struct twin p;
        struct err e = { 0 };

        twin_make(&p);
        for (size_t i = 0; i < ARRAY_SIZE(bytes); i++) {
                AUTO_FD qemu = kit_open(p.path);
                AUTO_FD fd = twin_open_rw(&p);

                CU_ASSERT_EQUAL(set_byte(qemu, F_RDLCK, bytes[i]), 0);
                CU_ASSERT_PTR_NULL(twin_open_tag(&p, NULL, &e));
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "QEMU"));
                CU_ASSERT_EQUAL(imglock_append(fd, &e), -EBUSY);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "QEMU"));
        }
        CU_ASSERT(twin_remove(&p));
}

/* locks of all kinds: the kernel says that it has none */
static int forbid_locks(void)
{
        struct sock_filter code[] = {
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 4),
                BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 1, 0),
                BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_GETLK, 0, 1),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOLCK),
                BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = { ARRAY_SIZE(code), code };

        return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
               prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0 ? -errno : 0;
}

static int without_locks(const struct twin *p)
{
        AUTO_FD fd = twin_open_rw(p);
        struct err e = { 0 };

        if (forbid_locks() < 0)
                return SUITE_SKIP;

        struct qs_image *image = twin_open_tag(p, "two", &e);

        if (!image)
                return 1;
        qs_image_close(image);
        if (imglock_append(fd, &e) != -ENOLCK || !strstr(e.text, "its file system has no locks"))
                return 2;
        if (imglock_delete(fd, 1, &e) != -ENOLCK || !imglock_readers(fd))
                return 3;
        return 0;
}

static void no_locks(void)
{
        struct twin p;
        int status = 0;

        twin_make(&p);
        fflush(NULL);

        pid_t pid = fork();

        if (pid == 0)
                _exit(without_locks(&p));
        CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
        CU_ASSERT(WIFEXITED(status));
        if (WEXITSTATUS(status) == SUITE_SKIP)
                printf("skipped: no seccomp filters here ");
        else
                CU_ASSERT_EQUAL(WEXITSTATUS(status), 0);
        CU_ASSERT(twin_remove(&p));
}

static void switch_for_ever(const struct twin *p)
{
        AUTO_FD fd = twin_open_rw(p);

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (unsigned i = 0;; i++)
                io_pwrite_full(fd, p->sector[i % 2], LAYOUT_SECTOR_BYTES, 0);
}

/* Reads of sector 0 that are torn, and snapshots that are not the default any
 * more when they are locked. */
static void switched_all_the_time(void)
{
        struct twin p;
        unsigned failed = 0;
        unsigned two = 0;

        twin_make(&p);
        fflush(NULL);

        pid_t pid = fork();

        if (pid == 0)
                switch_for_ever(&p);
        for (unsigned i = 0; i < OPENS; i++) {
                struct err e = { 0 };
                struct qs_image *image = twin_open_tag(&p, i % 4 ? NULL : "two", &e);

                if (!image) {
                        if (failed++ == 0)
                                fprintf(stderr, "%s\n", e.text);
                        continue;
                }
                two += strcmp(qs_image_info(image)->tag, "two") == 0;
                failed += i % 4 == 0 && strcmp(qs_image_info(image)->tag, "two") != 0;
                qs_image_close(image);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        CU_ASSERT_EQUAL(failed, 0);
        CU_ASSERT(two >= OPENS / 4);
        CU_ASSERT(!twin_taken(&p, TWIN_TAG_BYTE(1)) && !twin_taken(&p, TWIN_TAG_BYTE(2)));
        CU_ASSERT(twin_remove(&p));
}

static const CU_TestInfo cases[] = {
        { "a reader keeps only its tag's byte", reader_keeps_its_tag },
        { "a list keeps nothing", list_keeps_nothing },
        { "a checker keeps all", check_keeps_all },
        { "a reader of a changed file keeps all", changed_keeps_all },
        { "deleting and reading", delete_and_readers },
        { "a snapshot's byte", tag_by_hand },
        { "two appenders", appenders },
        { "QEMU writes", qemu_writes },
        { "no locks here", no_locks },
        { "sector 0 switched all the time", switched_all_the_time },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-locks", cases);
}
