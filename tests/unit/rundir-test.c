/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a VM name is held by one process at a time and free when that ends.
 * Method: a folder of our own; claims from this process and from a child. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "tests/unit/suite.h"
#include "vmm/rundir.h"

static char folder[] = "/tmp/snapback-rundir.XXXXXX";

static void names_are_checked(void)
{
        static const struct {
                const char *name;
                int rc;
        } table[] = {
                { "a", 0 }, { "vm-1.x_Y", 0 }, { "", -EINVAL }, { "-a", -EINVAL },
                { ".a", -EINVAL },
                { "a/b", -EINVAL }, { "a b", -EINVAL }, { "..", -EINVAL }, { "a\n", -EINVAL },
                { "123456789012345678901234567890123456789012345678", 0 },
                { "1234567890123456789012345678901234567890123456789", -EINVAL },
        };

        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
                CU_ASSERT_EQUAL(rundir_check_name(table[i].name, NULL), table[i].rc);
}

static void a_name_is_claimed_once(void)
{
        struct err e;
        int fd, second;

        CU_ASSERT_EQUAL_FATAL(rundir_claim("one", &fd, &e), 0);
        /* INV-NAME */
        CU_ASSERT_EQUAL(rundir_claim("one", &second, &e), -EEXIST);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'one' is already running"));
        CU_ASSERT_EQUAL(rundir_find("one", &e), 0);
        rundir_release("one");
        fd_close(&fd);
        CU_ASSERT_EQUAL(rundir_find("one", &e), -ENOENT);
        CU_ASSERT_EQUAL(rundir_claim("one", &fd, &e), 0);
        rundir_release("one");
        fd_close(&fd);
}

static void a_dead_holder_leaves_the_name_free(void)
{
        struct rundir_path sock;
        int go[2], fd;
        char c;

        CU_ASSERT_EQUAL_FATAL(pipe(go), 0);

        pid_t pid = fork();

        if (pid == 0) {
                if (rundir_claim("two", &fd, NULL) == 0 &&
                    rundir_path(&sock, "two", "sock", NULL) == 0)
                        fclose(fopen(sock.text, "w"));
                (void)!write(go[1], "x", 1);
                pause();
                _exit(0);
        }
        CU_ASSERT_EQUAL(read(go[0], &c, 1), 1);
        CU_ASSERT_EQUAL(rundir_claim("two", &fd, NULL), -EEXIST);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(go[0]);
        close(go[1]);
        CU_ASSERT_EQUAL(rundir_find("two", NULL), -ENOENT);
        CU_ASSERT_EQUAL_FATAL(rundir_claim("two", &fd, NULL), 0);
        /* the stale socket is out of the way */
        CU_ASSERT_EQUAL_FATAL(rundir_path(&sock, "two", "sock", NULL), 0);
        CU_ASSERT_EQUAL(access(sock.text, F_OK), -1);
        rundir_release("two");
        fd_close(&fd);
}

/* Somebody who looks must not look like somebody who holds. */
static void looking_is_not_holding(void)
{
        int go[2];
        char c;
        unsigned refused = 0;

        CU_ASSERT_EQUAL_FATAL(pipe(go), 0);

        pid_t pid = fork();

        if (pid == 0) {
                (void)!write(go[1], "x", 1);
                for (;;)
                        rundir_find("three", NULL);
        }
        CU_ASSERT_EQUAL(read(go[0], &c, 1), 1);
        for (int i = 0; i < 2000; i++) {
                int fd;

                if (rundir_claim("three", &fd, NULL) < 0) {
                        refused++;
                        continue;
                }
                if (i % 2)
                        rundir_release("three");
                fd_close(&fd);
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        close(go[0]);
        close(go[1]);
        CU_ASSERT_EQUAL(refused, 0);
        rundir_release("three");
}

static int collect(void *ctx, const char *name)
{
        strcat(ctx, name);
        strcat(ctx, " ");
        return 0;
}

static void only_running_ones_are_listed(void)
{
        char seen[256] = "";
        struct rundir_path stale;
        int a, b;

        CU_ASSERT_EQUAL_FATAL(rundir_path(&stale, "stale", "lock", NULL), 0);
        fclose(fopen(stale.text, "w"));
        CU_ASSERT_EQUAL_FATAL(rundir_claim("b", &b, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(rundir_claim("a", &a, NULL), 0);
        CU_ASSERT_EQUAL(rundir_each(collect, seen, NULL), 0);
        CU_ASSERT_STRING_EQUAL(seen, "a b ");
        rundir_release("a");
        rundir_release("b");
        fd_close(&a);
        fd_close(&b);
        unlink(stale.text);
}

/* What cannot be opened does not count as nobody's (EMFILE shows in the same way). */
static void what_cannot_be_told(void)
{
        struct rundir_path odd;
        char seen[256] = "";
        struct err e;

        CU_ASSERT_EQUAL_FATAL(rundir_path(&odd, "odd", "lock", NULL), 0);
        CU_ASSERT_EQUAL_FATAL(symlink("odd.lock", odd.text), 0);
        CU_ASSERT_EQUAL(rundir_find("odd", &e), -ELOOP);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, odd.text));
        CU_ASSERT_EQUAL(rundir_each(collect, seen, &e), -ELOOP);
        unlink(odd.text);
        CU_ASSERT_EQUAL(rundir_each(collect, seen, &e), 0);
        CU_ASSERT_EQUAL(rundir_find("odd", &e), -ENOENT);
}

static void a_long_folder_is_refused(void)
{
        char longname[200];
        struct rundir_path p;
        struct err e;

        memset(longname, 'x', sizeof(longname) - 1);
        longname[0] = '/';
        longname[sizeof(longname) - 1] = '\0';
        setenv("VMM_RUNTIME_DIR", longname, 1);
        CU_ASSERT_EQUAL(rundir_path(&p, "a", "sock", &e), -ENAMETOOLONG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "VMM_RUNTIME_DIR"));
        setenv("VMM_RUNTIME_DIR", folder, 1);
}

static const CU_TestInfo cases[] = {
        { "names are checked", names_are_checked },
        { "a name is claimed once", a_name_is_claimed_once },
        { "a dead holder leaves the name free", a_dead_holder_leaves_the_name_free },
        { "looking is not holding", looking_is_not_holding },
        { "only running ones are listed", only_running_ones_are_listed },
        { "what cannot be told", what_cannot_be_told },
        { "a folder too long for sockets is refused", a_long_folder_is_refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (!mkdtemp(folder))
                return 1;
        setenv("VMM_RUNTIME_DIR", folder, 1);

        int status = suite_main("rundir", cases);

        rmdir(folder);
        return status;
}
