/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/alias.h"

#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/uffd.h"

struct alias {
        char *base;
        uint64_t bytes;
        int uffd;
};

static bool map(struct alias *a, int memfd)
{
        void *p = mmap(NULL, a->bytes, PROT_NONE, MAP_SHARED, memfd, 0);

        if (p == MAP_FAILED)
                return false;
        a->base = p;
        return madvise(p, a->bytes, MADV_DONTFORK) == 0 &&
               madvise(p, a->bytes, MADV_DONTDUMP) == 0;
}

static bool watch(struct alias *a)
{
        return uffd_open_own(UFFD_FEATURE_MISSING_SHMEM, &a->uffd, NULL) == 0 &&
               uffd_register_missing(a->uffd, (uintptr_t)a->base, a->bytes, NULL) == 0 &&
               mprotect(a->base, a->bytes, PROT_READ | PROT_WRITE) == 0;
}

struct alias *alias_new(int memfd, uint64_t bytes)
{
        struct alias *a = calloc(1, sizeof(*a));

        if (!a)
                return NULL;
        a->uffd = -1;
        a->bytes = bytes;
        if (!map(a, memfd) || !watch(a)) {
                alias_free(a);
                return NULL;
        }
        return a;
}

void alias_free(struct alias *a)
{
        if (!a)
                return;
        if (a->base)
                munmap(a->base, a->bytes);
        fd_close(&a->uffd);
        free(a);
}

bool alias_fill(const struct alias *a, uint64_t offset, const void *data, size_t bytes)
{
        ASSERT(offset <= a->bytes && bytes <= a->bytes - offset);
        return uffd_copy_absent(a->uffd, (uintptr_t)a->base + offset, data, bytes);
}
