/* SPDX-License-Identifier: Apache-2.0 */
/* nomem - an LD_PRELOAD library in which the Nth allocation finds no memory.
 *
 *   NOMEM=N      which one, from 1, counted from NOMEM_FROM on; 0 = none
 *   NOMEM_LOG    a file to which the number of allocations is written at the end
 *
 * Counted: malloc, calloc, realloc, reallocarray, aligned_alloc and strdup, of the
 * program and all its libraries. Where threads work, which one is the Nth
 * differs from run to run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

/* what must outlive a call; -1 = the environment was not read yet */
static _Atomic long wanted = -1;
static _Atomic long calls;

static bool hit(void)
{
        if (wanted < 0) {
                const char *n = getenv("NOMEM");

                wanted = n ? atol(n) : 0;
        }
        if (++calls != wanted)
                return false;
        errno = ENOMEM;
        return true;
}

void *malloc(size_t n)
{
        return hit() ? NULL : __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
        return hit() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
        return hit() ? NULL : __libc_realloc(p, n);
}

void *reallocarray(void *p, size_t n, size_t size)
{
        size_t bytes;

        if (__builtin_mul_overflow(n, size, &bytes)) {
                errno = ENOMEM;
                return NULL;
        }
        return hit() ? NULL : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t n)
{
        return hit() ? NULL : __libc_memalign(align, n);
}

__attribute__((destructor)) static void tell(void)
{
        const char *path = getenv("NOMEM_LOG");
        int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
        char line[32];
        int n = snprintf(line, sizeof(line), "%ld\n", (long)calls);

        if (fd >= 0 && write(fd, line, (size_t)n) != n)
                abort();
        if (fd >= 0)
                close(fd);
}
