/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what is left of memory is the least of what the host and the groups around us
 *       leave; what is not there or says "max" limits nothing.
 * Method: control groups as files in a folder of ours. */
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/memroom.h"

#define MIB (1ull << 20)

static char root[] = "/tmp/memroom-test.XXXXXX";

static void put(const char *name, const char *text)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/%s", root, name);
        for (char *at = path + strlen(root) + 1; (at = strchr(at, '/')); at++) {
                *at = '\0';
                mkdir(path, 0700);
                *at = '/';
        }

        FILE *f = fopen(path, "w");

        CU_ASSERT_FATAL(f != NULL);
        fputs(text, f);
        fclose(f);
}

static int drop(const char *path, const struct stat *st, int what, struct FTW *ftw)
{
        (void)st;
        (void)what;
        (void)ftw;
        return remove(path);
}

static void make_groups(void)
{
        strcpy(root + strlen(root) - 6, "XXXXXX");
        CU_ASSERT_FATAL(mkdtemp(root) != NULL);
        /* version 2: 100 MiB of which 70 are used, 10 of them easily given back; around it 50 */
        put("a/b/memory.max", "104857600\n");
        put("a/b/memory.current", "73400320\n");
        put("a/b/memory.stat", "anon 1\ninactive_file 10485760\nactive_file 99999999\n");
        put("a/memory.max", "52428800\n");
        put("a/memory.current", "0\n");
        put("c/memory.max", "max\n");
        put("c/memory.current", "5\n");
        put("full/memory.max", "4096\n");
        put("full/memory.current", "8192\n");
        /* version 1 */
        put("memory/v1/memory.limit_in_bytes", "31457280\n");
        put("memory/v1/memory.usage_in_bytes", "20971520\n");
        put("memory/v1/memory.stat", "cache 1\ninactive_file 9\ntotal_inactive_file 1048576\n");
}

static const struct {
        const char *text;
        uint64_t room;
} groups[] = {
        { "0::/a/b\n", 40 * MIB },
        { "0::/a\n", 50 * MIB },
        { "0::/c\n", UINT64_MAX },
        { "0::/full\n", 0 },
        { "0::/\n", UINT64_MAX },
        { "0::/../gone\n", UINT64_MAX },
        { "4:memory:/v1\n0::/a/b\n", 11 * MIB },
        { "4:memory:/v1\n", 11 * MIB },
        { "3:cpu:/v1\n1:name=systemd:/a\n", UINT64_MAX },
        { "no colon\nx:\n", UINT64_MAX },
        { "", UINT64_MAX },
};

static void of_groups(void)
{
        make_groups();
        for (size_t i = 0; i < ARRAY_SIZE(groups); i++)
                EXPECT_EQUAL(groups[i].text, memroom_groups(groups[i].text, root),
                             groups[i].room);
        nftw(root, drop, 8, FTW_DEPTH | FTW_PHYS);
}

static void of_the_host(void)
{
        CU_ASSERT_EQUAL(memroom_host("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"
                                     "SwapFree: 1024 kB\n"), 3 * MIB);
        CU_ASSERT_EQUAL(memroom_host("MemTotal: 9 kB\nMemAvailable: 1024 kB\n"), MIB);
        CU_ASSERT_EQUAL(memroom_host("MemTotal: 9 kB\n"), UINT64_MAX);
}

static void here(void)
{
        uint64_t room = memroom_bytes();

        CU_ASSERT(room > 0);
}

static const CU_TestInfo cases[] = {
        { "of control groups", of_groups },
        { "of the host", of_the_host },
        { "of this process", here },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("memroom", cases);
}
