/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: RAM lies where the physical map says, and ram_at() lets nothing else through.
 * Method: tables of sizes and of ranges at every edge; real mappings, never touched
 * beyond a few pages; a memfd for the image cache. */
#include "vmm/ram.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

static void layout_table(void)
{
        static const struct {
                uint64_t bytes;
                int rc;
                unsigned nslots;
                uint64_t low_bytes, end_gpa;
        } t[] = {
                { 62 * MIB, -ERANGE, 0, 0, 0 },
                { 64 * MIB, 0, 1, 64 * MIB, 64 * MIB },
                { 65 * MIB, -EINVAL, 0, 0, 0 },
                { 64 * MIB + 4096, -EINVAL, 0, 0, 0 },
                { 3 * GIB, 0, 1, 3 * GIB, 3 * GIB },
                { 3 * GIB + 2 * MIB, 0, 2, 3 * GIB, 4 * GIB + 2 * MIB },
                { 5 * GIB, 0, 2, 3 * GIB, 6 * GIB },
                { RAM_BYTES_MAX, 0, 2, 3 * GIB, RAM_BYTES_MAX + GIB },
                { RAM_BYTES_MAX + 2 * MIB, -ERANGE, 0, 0, 0 },
                { UINT64_MAX, -ERANGE, 0, 0, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct ram ram;
                struct err e;

                CU_ASSERT_EQUAL(ram_init(&ram, t[i].bytes, &e), t[i].rc);
                if (t[i].rc < 0) {
                        CU_ASSERT_EQUAL(e.code, t[i].rc);
                        continue;
                }
                CU_ASSERT_EQUAL(ram.nslots, t[i].nslots);
                CU_ASSERT_EQUAL(ram.slots[0].bytes, t[i].low_bytes);
                CU_ASSERT_EQUAL(ram_end_gpa(&ram), t[i].end_gpa);
        }
}

static void at_edges(void)
{
        struct ram ram;
        static const struct {
                uint64_t gpa, bytes;
                int slot;               /* -1: refused */
        } t[] = {
                { 0, 0, 0 },
                { 0, 1, 0 },
                { 0, 3 * GIB, 0 },
                { 0, 3 * GIB + 1, -1 },
                { 3 * GIB - 1, 1, 0 },
                { 3 * GIB - 1, 2, -1 },
                { 3 * GIB, 0, 0 },
                { 3 * GIB, 1, -1 },
                { 3 * GIB + 1, 0, -1 },
                { 4 * GIB - 1, 1, -1 },
                { 4 * GIB - 1, 2, -1 },
                { 4 * GIB, 1, 1 },
                { 4 * GIB, 4 * MIB, 1 },
                { 4 * GIB, 4 * MIB + 1, -1 },
                { 4 * GIB + 4 * MIB - 1, 1, 1 },
                { 4 * GIB + 4 * MIB, 1, -1 },
                { 1, UINT64_MAX, -1 },
                { UINT64_MAX, 1, -1 },
                { UINT64_MAX, UINT64_MAX, -1 },
                { 4 * GIB + 1, UINT64_MAX - 4 * GIB, -1 },
        };

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 3 * GIB + 4 * MIB, NULL), 0);
        CU_ASSERT_PTR_NULL(ram_at(&ram, 0, 1));
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, false, RAM_SMALL, NULL), 0);
        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                uint8_t *p = ram_at(&ram, t[i].gpa, t[i].bytes);
                uint8_t *want = NULL;

                if (t[i].slot >= 0)
                        want = ram.slots[t[i].slot].hva + (t[i].gpa - ram.slots[t[i].slot].gpa);
                CU_ASSERT_PTR_EQUAL(p, want);
        }
        ram_unmap(&ram);
        CU_ASSERT_PTR_NULL(ram_at(&ram, 0, 1));
}

/* whether the page can be read, without a signal */
static bool readable(const void *page)
{
        int fds[2];

        if (pipe(fds) < 0)
                return false;

        bool ok = write(fds[1], page, 1) == 1;

        close(fds[0]);
        close(fds[1]);
        return ok;
}

static void anonymous_is_aligned_and_locked_until_unlocked(void)
{
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 64 * MIB, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ram_map_anonymous(&ram, true, true, NULL), 0);
        CU_ASSERT_EQUAL((uintptr_t)ram.slots[0].hva % (2 * MIB), 0);
        CU_ASSERT_FALSE(readable(ram.slots[0].hva));
        CU_ASSERT_EQUAL(ram_unlock(&ram, NULL), 0);
        CU_ASSERT(readable(ram.slots[0].hva));
        memset(ram_at(&ram, 64 * MIB - 4096, 4096), 0x5a, 4096);
        ram_unmap(&ram);
        ram_unmap(&ram);
}

static void cache_offset_is_gpa(void)
{
        AUTO_FD fd = memfd_create("cache", MFD_CLOEXEC);
        struct ram ram;

        CU_ASSERT_EQUAL_FATAL(ram_init(&ram, 3 * GIB + 2 * MIB, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(ftruncate(fd, (off_t)ram_end_gpa(&ram)), 0);
        CU_ASSERT_EQUAL(pwrite(fd, "low", 3, 5 * 4096), 3);
        CU_ASSERT_EQUAL(pwrite(fd, "high", 4, (off_t)(4 * GIB + 4096)), 4);
        CU_ASSERT_EQUAL_FATAL(ram_map_cache(&ram, fd, NULL), 0);
        CU_ASSERT_FALSE(readable(ram.slots[0].hva + 5 * 4096));
        CU_ASSERT_FALSE(readable(ram.slots[1].hva + 4096));
        CU_ASSERT_EQUAL_FATAL(ram_unlock(&ram, NULL), 0);
        CU_ASSERT_EQUAL(memcmp(ram_at(&ram, 5 * 4096, 3), "low", 3), 0);
        CU_ASSERT_EQUAL(memcmp(ram_at(&ram, 4 * GIB + 4096, 4), "high", 4), 0);

        /* private: the cache never sees the guest's writes */
        memcpy(ram_at(&ram, 5 * 4096, 3), "own", 3);

        char back[3];

        CU_ASSERT_EQUAL(pread(fd, back, 3, 5 * 4096), 3);
        CU_ASSERT_EQUAL(memcmp(back, "low", 3), 0);
        ram_unmap(&ram);
}

static void host_check(void)
{
        struct err e;

        CU_ASSERT_EQUAL(ram_check_host(RAM_BYTES_MIN, &e), 0);
        CU_ASSERT_EQUAL(ram_check_host(1ull << 60, &e), -ENOMEM);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "--memory"));
}

static const CU_TestInfo cases[] = {
        { "layout by size", layout_table },
        { "ram_at refuses all that is not in one slot", at_edges },
        { "anonymous RAM is aligned, PROT_NONE until unlocked",
          anonymous_is_aligned_and_locked_until_unlocked },
        { "the image cache is mapped privately at offset = gpa", cache_offset_is_gpa },
        { "a guest larger than the host is refused", host_check },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("ram", cases);
}
