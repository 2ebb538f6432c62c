/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a memfd whose pages do not appear one by one (shared memory in huge pages) is
 *       told from one that can be an image cache, and the look leaves no page behind.
 * Method: a memfd as the host gives it, and files in which a neighbour is there. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pageserver/cache.h"
#include "tests/unit/suite.h"

#define BYTES (8 << 20)

static int empty_memfd(void)
{
        int fd = memfd_create("test", MFD_CLOEXEC);

        CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, BYTES) == 0);
        return fd;
}

static bool is_empty(int fd)
{
        return lseek(fd, 0, SEEK_HOLE) == 0 && lseek(fd, 0, SEEK_DATA) < 0;
}

/* What the host does decides which; either way nothing may stay. */
static void leaves_nothing(void)
{
        int fd = empty_memfd();
        bool first = cache_fills_alone(fd);

        CU_ASSERT(is_empty(fd));
        CU_ASSERT(cache_fills_alone(fd) == first);
        close(fd);
}

static void neighbour(off_t at)
{
        int fd = empty_memfd();

        CU_ASSERT_FATAL(pwrite(fd, "", 1, at) == 1);
        CU_ASSERT(!cache_fills_alone(fd));
        close(fd);
}

static void page_before(void)
{
        neighbour(0);
}

static void page_behind(void)
{
        neighbour(2 * 4096);
}

static const CU_TestInfo cases[] = {
        { "the look leaves no page behind", leaves_nothing },
        { "a page that appears before the written one is seen", page_before },
        { "a page that appears behind it is seen", page_behind },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("cache", cases);
}
