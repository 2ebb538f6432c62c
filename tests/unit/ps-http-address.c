/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the HTTP door opens in the file system or for this host alone.
 * Method: a table of addresses; the sockets that two of them give. */
#include <CUnit/CUnit.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/http-address.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

static void addresses(void)
{
        static const struct {
                const char *text;
                int family;             /* 0 = refused */
                const char *path;
                unsigned port;
        } rows[] = {
                { "/run/x.sock", AF_UNIX, "/run/x.sock", 0 },
                { "x.sock", AF_UNIX, "x.sock", 0 },
                { "unix:/run/x:1", AF_UNIX, "/run/x:1", 0 },
                { "unix:127.0.0.1:80", AF_UNIX, "127.0.0.1:80", 0 },
                { "./a:80", AF_UNIX, "./a:80", 0 },
                { "127.0.0.1:9100", AF_INET, NULL, 9100 },
                { "[::1]:65535", AF_INET6, NULL, 65535 },
                { "127.0.0.1:1", AF_INET, NULL, 1 },
                { "", 0, NULL, 0 },
                { "unix:", 0, NULL, 0 },
                { "127.0.0.1:", 0, NULL, 0 },
                { "127.0.0.1:0", 0, NULL, 0 },
                { "127.0.0.1:65536", 0, NULL, 0 },
                { "127.0.0.1:80x", 0, NULL, 0 },
                { "127.0.0.1:+80", 0, NULL, 0 },
                { "127.0.0.1:000080", 0, NULL, 0 },
                { "0.0.0.0:80", 0, NULL, 0 },
                { "127.0.0.2:80", 0, NULL, 0 },
                { "[::]:80", 0, NULL, 0 },
                { "::1:80", 0, NULL, 0 },
                { ":80", 0, NULL, 0 },
                { "localhost:80", 0, NULL, 0 },
                { "example.org:80", 0, NULL, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                const char *row = rows[i].text[0] ? rows[i].text : "(empty)";
                struct http_address a = { 0 };
                struct err e = { 0 };
                int rc = http_address_parse(rows[i].text, &a, &e);

                EXPECT_EQUAL(row, rc, rows[i].family ? 0 : -EINVAL);
                EXPECT_EQUAL(row, e.code, rc);
                if (rows[i].path)
                        EXPECT_TEXT(row, a.path ? a.path : "(none)", rows[i].path);
                if (rc < 0 || rows[i].path)
                        continue;
                EXPECT_TRUE(row, !a.path);
                EXPECT_EQUAL(row, a.tcp.any.sa_family, rows[i].family);
                EXPECT_EQUAL(row, ntohs(rows[i].family == AF_INET ? a.tcp.v4.sin_port :
                                        a.tcp.v6.sin6_port), rows[i].port);
        }
}

static void only_this_host(void)
{
        struct http_address a;

        CU_ASSERT_EQUAL(http_address_parse("127.0.0.1:80", &a, NULL), 0);
        CU_ASSERT_EQUAL(a.tcp.v4.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
        CU_ASSERT_EQUAL(http_address_parse("[::1]:80", &a, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(&a.tcp.v6.sin6_addr, &in6addr_loopback, 16), 0);
}

static void in_the_file_system(void)
{
        char folder[] = "/tmp/ps-http-address.XXXXXX";
        char path[64];
        struct http_address a;
        struct listen_socket l = { .fd = -1 };
        struct stat st;

        CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/http", folder);
        CU_ASSERT_EQUAL(http_address_parse(path, &a, NULL), 0);
        CU_ASSERT_EQUAL(http_address_listen(&a, &l, NULL), 0);
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT_EQUAL(st.st_mode & 07777, 0600);
        CU_ASSERT_TRUE(S_ISSOCK(st.st_mode));

        struct listen_socket second = { .fd = -1 };
        struct err e = { 0 };

        CU_ASSERT_EQUAL(http_address_listen(&a, &second, &e), -EADDRINUSE);
        listen_close(&l);
        CU_ASSERT_EQUAL(access(path, F_OK), -1);
        rmdir(folder);
}

static const CU_TestInfo cases[] = {
        { "addresses", addresses },
        { "TCP is this host's alone", only_this_host },
        { "a socket in the file system is its user's", in_the_file_system },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ps-http-address", cases);
}
