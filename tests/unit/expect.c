/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/expect.h"

#include <CUnit/CUnit.h>
#include <CUnit/TestRun.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"

#define TEXT_MAX 400

void expect_equal(const char *row, const char *what, long long got, long long want,
                  const char *file, unsigned line)
{
        char text[TEXT_MAX];

        snprintf(text, sizeof(text), "row '%s': %s is %lld, not %lld", row, what, got, want);
        CU_assertImplementation(got == want, line, text, file, "", CU_FALSE);
}

void expect_text(const char *row, const char *what, const char *got, const char *want,
                 const char *file, unsigned line)
{
        char text[TEXT_MAX];

        snprintf(text, sizeof(text), "row '%s': %s is \"%s\", not \"%s\"", row, what,
                 got ? got : "(null)", want);
        CU_assertImplementation(got && strcmp(got, want) == 0, line, text, file, "", CU_FALSE);
}

bool expect_abort(void (*call)(void))
{
        fflush(NULL);

        pid_t child = fork();

        ASSERT(child >= 0);
        if (child == 0) {
                int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

                dup2(null, STDERR_FILENO);
                call();
                _exit(0);
        }

        int status;

        while (waitpid(child, &status, 0) < 0)
                ;
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

unsigned expect_open_fds(void)
{
        DIR *dir = opendir("/proc/self/fd");
        unsigned n = 0;

        ASSERT(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}
