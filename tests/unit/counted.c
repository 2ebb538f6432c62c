/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/counted.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

static struct counted so_far;

struct counted counted_take(void)
{
        struct counted taken = so_far;

        so_far = (struct counted){ 0 };
        return taken;
}

/* Defines the function that the linker puts in front of name. */
#define COUNTED(kind, type, name, params, args)         \
        type __real_##name params;                      \
        type __wrap_##name params;                      \
        type __wrap_##name params                       \
        {                                               \
                so_far.kind++;                          \
                return __real_##name args;              \
        }

COUNTED(allocations, void *, malloc, (size_t n), (n))
COUNTED(allocations, void *, calloc, (size_t n, size_t bytes), (n, bytes))
COUNTED(allocations, void *, realloc, (void *p, size_t n), (p, n))
COUNTED(allocations, void, free, (void *p), (p))
COUNTED(allocations, struct json_object *, json_object_new_object, (void), ())
COUNTED(allocations, void *, mmap64,
        (void *p, size_t n, int prot, int flags, int fd, off_t at), (p, n, prot, flags, fd, at))
COUNTED(locks, int, pthread_mutex_lock, (pthread_mutex_t *m), (m))

int __real_open64(const char *path, int flags, ...);
int __wrap_open64(const char *path, int flags, ...);

int __wrap_open64(const char *path, int flags, ...)
{
        va_list ap;

        va_start(ap, flags);

        unsigned mode = va_arg(ap, unsigned);

        va_end(ap);
        so_far.files++;
        return __real_open64(path, flags, mode);
}
