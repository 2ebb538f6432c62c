/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: an answer in lines is given line by line however it is cut, its last line is the
 *       result or the error, and no answer harms who asked.
 * Method: a VM's socket behind which a child says what the table has, whole and byte by
 *         byte. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/httpc.h"
#include "vmm/rundir.h"
#include "vmm/unixsock.h"

#define LONG_LINE (64 << 10)

static char folder[] = "/tmp/snapback-httpc.XXXXXX";

#define LINES "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define PLAIN(status) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n"

/* seen: what on_line() got, "n" of each {"n": N} and '?' for others */
static const struct row {
        const char *name;
        const char *answer;
        const char *seen;
        int rc;
        const char *said;               /* of the error; else n of the result */
} rows[] = {
        { "lines", LINES "8\r\n{\"n\":1}\n\r\n8\r\n{\"n\":2}\n\r\n0\r\n\r\n", "12", 0, "2" },
        { "two lines at once", LINES "10\r\n{\"n\":1}\n{\"n\":2}\n\r\n0\r\n\r\n", "12", 0, "2" },
        { "a line in two chunks", LINES "4\r\n{\"n\"\r\n4\r\n:1}\n\r\n0\r\n\r\n", "1", 0, "1" },
        { "no newline at the end", LINES "7\r\n{\"n\":1}\r\n0\r\n\r\n", "1", 0, "1" },
        { "one answer, not in lines", PLAIN("200 OK") "{\"n\":5}\n", "5", 0, "5" },
        { "an error at last", LINES "8\r\n{\"n\":1}\n\r\nE\r\n{\"error\":\"no\"}\r\n0\r\n\r\n",
          "1?", -EIO, "no" },
        { "refused", PLAIN("409 Conflict") "{\"error\":\"busy\"}\n", "?", -EBUSY, "busy" },
        { "refused without a word", PLAIN("500 Oops") "{}\n", "?", -EIO, "HTTP status 500" },
        { "no JSON", LINES "4\r\nbye\n\r\n0\r\n\r\n", "", -EBADMSG, "not a JSON object" },
        { "no JSON behind a line", LINES "8\r\n{\"n\":1}\n\r\n2\r\n{\n\r\n0\r\n\r\n", "1", -EBADMSG,
          "not a JSON object" },
        { "no JSON at the end", LINES "1\r\n{\r\n0\r\n\r\n", "", -EBADMSG, "not a JSON object" },
        { "an empty line", LINES "1\r\n\n\r\n0\r\n\r\n", "", -EBADMSG, "not a JSON object" },
        { "ends between lines", LINES "8\r\n{\"n\":1}\n\r\n", "1", -EIO, "may have ended" },
        { "ends in a line", LINES "8\r\n{\"n\"", "", -EIO, "may have ended" },
        { "says nothing", "", "", -EIO, "may have ended" },
        { "a line without end", NULL, "", -EBADMSG, "too long" },
};

/* what one row's answer is sent as */
enum cut { WHOLE, BYTES };

static void send_long_line(int sock)
{
        char blanks[LONG_LINE];

        memset(blanks, ' ', sizeof(blanks));
        (void)!io_write_full(sock, PLAIN("200 OK"), strlen(PLAIN("200 OK")));
        (void)!io_write_full(sock, blanks, sizeof(blanks));
}

static _Noreturn void serve(int listener, const struct row *row, enum cut cut)
{
        char request[4096];
        int sock;

        signal(SIGPIPE, SIG_IGN);
        alarm(20);
        while ((sock = accept(listener, NULL, NULL)) < 0)
                usleep(1000);           /* it does not block */
        (void)!read(sock, request, sizeof(request));
        if (!row->answer)
                send_long_line(sock);
        for (const char *at = row->answer; at && *at; at += cut == WHOLE ? strlen(at) : 1)
                (void)!io_write_full(sock, at, cut == WHOLE ? strlen(at) : 1);
        _exit(0);
}

static void note(void *ctx, struct json_object *line)
{
        char *seen = ctx;
        uint64_t n;

        if (json_take_u64(line, "n", 9, &n, NULL) < 0)
                strcat(seen, "?");
        else
                sprintf(seen + strlen(seen), "%d", (int)n);
}

static void ask(const struct row *row)
{
        AUTO_JSON *result = NULL;
        struct err e = { 0 };
        char seen[64] = "";
        char got[8] = "";
        uint64_t n;
        int rc = httpc_stream("vm1", "PUT", "/x", NULL, note, seen, &result, &e);

        EXPECT_EQUAL(row->name, rc, row->rc);
        EXPECT_TEXT(row->name, seen, row->seen);
        if (row->rc < 0) {
                EXPECT_TRUE(row->name, strstr(e.text, row->said));
                EXPECT_TRUE(row->name, !result);
                return;
        }
        if (result && json_take_u64(result, "n", 9, &n, NULL) == 0)
                snprintf(got, sizeof(got), "%d", (int)n);
        EXPECT_TEXT(row->name, got, row->said);
}

static void each_row(enum cut cut)
{
        struct rundir_path path;
        int lock, listener;

        CU_ASSERT_EQUAL_FATAL(rundir_claim("vm1", &lock, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(rundir_path(&path, "vm1", "sock", NULL), 0);
        CU_ASSERT_EQUAL_FATAL(unixsock_listen(path.text, SOCK_STREAM, &listener, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                fflush(NULL);

                pid_t pid = fork();

                if (pid == 0)
                        serve(listener, &rows[i], cut);
                ask(&rows[i]);
                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
        }
        fd_close(&listener);
        rundir_release("vm1");
        fd_close(&lock);
}

static void whole(void)
{
        each_row(WHOLE);
}

static void byte_by_byte(void)
{
        each_row(BYTES);
}

static const CU_TestInfo cases[] = {
        { "answers that come whole", whole },
        { "answers that come byte by byte", byte_by_byte },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        if (!mkdtemp(folder))
                return 1;
        setenv("VMM_RUNTIME_DIR", folder, 1);

        int status = suite_main("httpc", cases);

        rmdir(folder);
        return status;
}
