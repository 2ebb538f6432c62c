/* SPDX-License-Identifier: Apache-2.0 */
/* oldkernel - an LD_PRELOAD library that makes the kernel look older to whoever asks it for
 * pages, writes and memory maps.
 *
 *   OLDKERNEL=6.1    which Linux; without it nothing is changed
 *
 * Hidden is what that version had not yet: features of UFFDIO_API, which is refused when
 * they are asked for; write protection of what is mapped from files; UFFDIO_POISON and
 * UFFDIO_MOVE; /dev/userfaultfd; reads of a userfaultfd that do not wait; PAGEMAP_SCAN.
 *
 * No memory is allocated, no lock taken, and no system call made that the caller would not
 * make himself, but for two madvise(): it also works behind filters of system calls.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define VERSION(major, minor) ((major) * 100u + (minor))
#define PAGE 4096u

/* userfaultfd.h has these where the tests are built from a new enough kernel's headers */
#define FEATURE(bit) (UINT64_C(1) << (bit))
#define NR_MOVE 0x05u
#define NR_POISON 0x08u
#define NR_PAGEMAP_SCAN 16u

static const struct {
        uint64_t features;
        unsigned since;
} births[] = {
        { FEATURE(11), VERSION(5, 18) },        /* EXACT_ADDRESS */
        { FEATURE(12), VERSION(5, 19) },        /* WP_HUGETLBFS_SHMEM */
        { FEATURE(13), VERSION(6, 4) },         /* WP_UNPOPULATED */
        { FEATURE(14), VERSION(6, 6) },         /* POISON */
        { FEATURE(15), VERSION(6, 7) },         /* WP_ASYNC */
        { FEATURE(16), VERSION(6, 8) },         /* MOVE */
};

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Constant after the start: programs drop their environment. */
static unsigned version = ~0u;

__attribute__((constructor)) static void read_version(void)
{
        const char *text = getenv("OLDKERNEL");
        unsigned major, minor;

        if (!text)
                return;
        if (sscanf(text, "%u.%u", &major, &minor) != 2)
                abort();
        version = VERSION(major, minor);
}

static uint64_t known_features(void)
{
        uint64_t known = ~UINT64_C(0);

        for (unsigned i = 0; i < sizeof(births) / sizeof(births[0]); i++) {
                if (version < births[i].since)
                        known &= ~births[i].features;
        }
        return known;
}

static int refuse(int errnum)
{
        errno = errnum;
        return -1;
}

static int api(int fd, struct uffdio_api *a)
{
        if (a->features & ~known_features()) {
                memset(a, 0, sizeof(*a));
                return refuse(EINVAL);
        }

        int rc = REAL(ioctl)(fd, UFFDIO_API, a);

        if (rc == 0)
                a->features &= known_features();
        return rc;
}

/* Only of anonymous memory can that be said, and nothing is lost where it is taken back:
 * who has memory registered has it hidden from his children. */
static int is_anonymous(const struct uffdio_range *r)
{
        void *hva = (void *)(uintptr_t)r->start;

        if (madvise(hva, r->len, MADV_WIPEONFORK) < 0)
                return 0;
        return madvise(hva, r->len, MADV_KEEPONFORK) == 0;
}

static int reg(int fd, struct uffdio_register *r)
{
        if (r->mode & UFFDIO_REGISTER_MODE_WP && version < VERSION(5, 19) &&
            !is_anonymous(&r->range))
                return refuse(EINVAL);
        return REAL(ioctl)(fd, UFFDIO_REGISTER, r);
}

int ioctl(int fd, unsigned long request, ...)
{
        unsigned nr = _IOC_NR(request);
        va_list ap;

        va_start(ap, request);
        void *arg = va_arg(ap, void *);

        va_end(ap);
        if (request == UFFDIO_API)
                return api(fd, arg);
        if (request == UFFDIO_REGISTER)
                return reg(fd, arg);
        if (_IOC_TYPE(request) == UFFDIO &&
            ((nr == NR_POISON && version < VERSION(6, 6)) ||
             (nr == NR_MOVE && version < VERSION(6, 8))))
                return refuse(EINVAL);
        if (_IOC_TYPE(request) == 'f' && nr == NR_PAGEMAP_SCAN && version < VERSION(6, 7))
                return refuse(ENOTTY);
        return REAL(ioctl)(fd, request, arg);
}

/* of a userfaultfd: nothing else is read at no offset without waiting */
ssize_t preadv2(int fd, const struct iovec *v, int n, off_t at, int flags)
{
        if (at == -1 && flags & RWF_NOWAIT && version < VERSION(6, 10))
                return refuse(EOPNOTSUPP);
        return REAL(preadv2)(fd, v, n, at, flags);
}

ssize_t preadv64v2(int fd, const struct iovec *v, int n, off64_t at, int flags)
{
        if (at == -1 && flags & RWF_NOWAIT && version < VERSION(6, 10))
                return refuse(EOPNOTSUPP);
        return REAL(preadv64v2)(fd, v, n, at, flags);
}

static int is_hidden(const char *path)
{
        return !strcmp(path, "/dev/userfaultfd") && version < VERSION(6, 1);
}

static mode_t mode_of(int flags, va_list ap)
{
        return flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;
}

int open(const char *path, int flags, ...)
{
        va_list ap;

        va_start(ap, flags);
        mode_t mode = mode_of(flags, ap);

        va_end(ap);
        return is_hidden(path) ? refuse(ENOENT) : REAL(open)(path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
        va_list ap;

        va_start(ap, flags);
        mode_t mode = mode_of(flags, ap);

        va_end(ap);
        return is_hidden(path) ? refuse(ENOENT) : REAL(open64)(path, flags, mode);
}
