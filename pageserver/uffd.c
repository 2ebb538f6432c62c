/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

#define PAGE 4096u
#define UFFD_DEVICE "/dev/userfaultfd"

/* The last page of user space: nobody registers it, so that an ioctl on it has
 * no effect and its errno tells whether the address space is still there. */
#define PROBE_HVA 0x7fffffffe000ull

/* Mappings change for less than this many turns of others. */
#define PROTECT_TRIES 1000u

/* UFFDIO_POISON, which older headers lack */
struct poison {
        struct uffdio_range range;
        uint64_t mode;
        int64_t updated;
};

#define POISON _IOWR(UFFDIO, 0x08, struct poison)

static_assert(sizeof(struct poison) == 32, "as the kernel has it");

static int open_any(void)
{
        AUTO_FD device = open(UFFD_DEVICE, O_RDWR | O_CLOEXEC);

        if (device >= 0) {
                int fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

                if (fd >= 0)
                        return fd;
        }
        return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
}

static int open_failed(struct err *e)
{
        if (errno == EPERM)
                return err_msg(e, EPERM, "userfaultfd is not permitted: give this user access to "
                               UFFD_DEVICE ", or CAP_SYS_PTRACE, or set "
                               "vm.unprivileged_userfaultfd=1");
        if (errno == ENOSYS)
                return err_msg(e, ENOSYS, "this kernel has no userfaultfd: "
                               "CONFIG_USERFAULTFD is needed");
        return err_set(e, errno, "cannot open a userfaultfd");
}

static int set_up(int fd, uint64_t features, struct err *e)
{
        struct uffdio_api api = { .api = UFFD_API, .features = features };

        if (ioctl(fd, UFFDIO_API, &api) < 0) {
                if (errno == EINVAL)
                        return err_msg(e, ENOTSUP, "this kernel's userfaultfd lacks features "
                                       "(asked for %#llx): a newer kernel is needed",
                                       (unsigned long long)features);
                return err_set(e, errno, "cannot set up a userfaultfd");
        }
        return 0;
}

int uffd_open(uint64_t features, int *ret_fd, struct err *e)
{
        AUTO_FD fd = open_any();

        if (fd < 0)
                return open_failed(e);

        int rc = set_up(fd, features, e);

        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

int uffd_open_own(uint64_t features, int *ret_fd, struct err *e)
{
        const int flags = O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY;
        AUTO_FD fd = (int)syscall(SYS_userfaultfd, flags);

        if (fd < 0)
                return open_failed(e);

        int rc = set_up(fd, features, e);

        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

uint64_t uffd_features(void)
{
        AUTO_FD fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
        struct uffdio_api api = { .api = UFFD_API };

        return fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 ? api.features : 0;
}

bool uffd_is(int fd)
{
        char name[64];
        char link[64];

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);

        ssize_t n = readlink(name, link, sizeof(link) - 1);

        if (n < 0)
                return false;
        link[n] = '\0';
        return !strcmp(link, "anon_inode:[userfaultfd]");
}

static ssize_t read_nowait(int fd, void *buf, size_t bytes)
{
        const struct iovec to = { .iov_base = buf, .iov_len = bytes };
        ssize_t n = preadv2(fd, &to, 1, -1, RWF_NOWAIT);

        if (n >= 0 || errno != EOPNOTSUPP)
                return n;

        int flags = fcntl(fd, F_GETFL);

        return fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -1 : read(fd, buf, bytes);
}

ssize_t uffd_read(int fd, void *buf, size_t bytes)
{
        ssize_t n = read_nowait(fd, buf, bytes);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        return n;
}

static int register_range(int fd, uint64_t hva, uint64_t bytes, uint64_t mode, const char *what,
                          struct err *e)
{
        struct uffdio_register r = { .range = { .start = hva, .len = bytes }, .mode = mode };

        if (ioctl(fd, UFFDIO_REGISTER, &r) < 0)
                return err_set(e, errno, "cannot register %llu bytes at %#llx for %s",
                               (unsigned long long)bytes, (unsigned long long)hva, what);
        return 0;
}

int uffd_register_missing(int fd, uint64_t hva, uint64_t bytes, struct err *e)
{
        return register_range(fd, hva, bytes, UFFDIO_REGISTER_MODE_MISSING, "missing pages", e);
}

int uffd_register_protect(int fd, uint64_t hva, uint64_t bytes, bool missing, struct err *e)
{
        uint64_t mode = UFFDIO_REGISTER_MODE_WP | (missing ? UFFDIO_REGISTER_MODE_MISSING : 0);

        return register_range(fd, hva, bytes, mode, "write protection", e);
}

/* The one place that reads the errno of an installing ioctl. */
static enum uffd_result classify(int errnum)
{
        switch (errnum) {
        case 0:
                return UFFD_DONE;
        case EAGAIN:
                return UFFD_RETRY;
        case ESRCH:
        case ENOENT:
                return UFFD_GONE;
        default:
                return UFFD_FAILED;
        }
}

/* One ioctl; returns 0 or its errno, *ret_copied how many bytes it settled. */
typedef int step_fn(int fd, uint64_t hva, const void *src, size_t bytes, size_t *ret_copied);

static int step_copy(int fd, uint64_t hva, const void *src, size_t bytes, size_t *ret_copied)
{
        struct uffdio_copy c = { .dst = hva, .src = (uintptr_t)src, .len = bytes };
        int errnum = ioctl(fd, UFFDIO_COPY, &c) < 0 ? errno : 0;

        *ret_copied = c.copy > 0 ? (size_t)c.copy : 0;
        return errnum;
}

static int step_zero(int fd, uint64_t hva, const void *src, size_t bytes, size_t *ret_copied)
{
        (void)src;

        struct uffdio_zeropage z = { .range = { .start = hva, .len = bytes } };
        int errnum = ioctl(fd, UFFDIO_ZEROPAGE, &z) < 0 ? errno : 0;

        *ret_copied = z.zeropage > 0 ? (size_t)z.zeropage : 0;
        return errnum;
}

/* The kernel stops at the first page that is there already: as EEXIST when it
 * is the first of the call, else as EAGAIN with a positive count. Waiters of a
 * skipped page were not woken by us: do it at the end, once.
 * A range that it does not find registered as one piece (part of it was unmapped, or
 * its mapping split) it refuses as a whole, with ENOENT: then page by page. */
static enum uffd_result install(step_fn *step, int fd, uint64_t hva, const char *src,
                                size_t bytes, size_t page_bytes)
{
        size_t done = 0;
        size_t gone = 0;
        size_t step_bytes = bytes;
        int errnum = 0;
        bool skipped = false;

        ASSERT(IS_ALIGNED(hva, page_bytes) && IS_ALIGNED(bytes, page_bytes));
        while (done < bytes) {
                size_t copied = 0;

                errnum = step(fd, hva + done, src ? src + done : NULL,
                              MIN(step_bytes, bytes - done), &copied);
                done += copied;
                if (errnum == 0 || copied > 0)
                        continue;
                if (errnum == ENOENT && step_bytes > page_bytes) {
                        step_bytes = page_bytes;
                        continue;
                }
                if (errnum != EEXIST && errnum != ENOENT)
                        break;
                gone += errnum == ENOENT ? page_bytes : 0;
                done += page_bytes;
                skipped = true;
        }
        ASSERT(done <= bytes);
        if (skipped)
                uffd_wake(fd, hva, bytes);
        errno = errnum;
        if (done == bytes)
                return gone == bytes ? UFFD_GONE : UFFD_DONE;
        return classify(errnum);
}

enum uffd_result uffd_copy(int fd, uint64_t hva, const void *src, size_t bytes,
                           size_t page_bytes)
{
        return install(step_copy, fd, hva, src, bytes, page_bytes);
}

enum uffd_result uffd_zero(int fd, uint64_t hva, size_t bytes)
{
        return install(step_zero, fd, hva, NULL, bytes, PAGE);
}

bool uffd_copy_absent(int fd, uint64_t hva, const void *src, size_t bytes)
{
        size_t copied;

        return step_copy(fd, hva, src, bytes, &copied) == 0 && copied == bytes;
}

enum uffd_result uffd_poison(int fd, uint64_t hva, size_t bytes)
{
        struct poison p = { .range = { .start = hva, .len = bytes } };
        int errnum = ioctl(fd, POISON, &p) < 0 ? errno : 0;

        return errnum == EEXIST ? UFFD_DONE : classify(errnum);
}

enum uffd_result uffd_wake(int fd, uint64_t hva, size_t bytes)
{
        struct uffdio_range r = { .start = hva, .len = bytes };

        return classify(ioctl(fd, UFFDIO_WAKE, &r) < 0 ? errno : 0);
}

/* EAGAIN says that the mappings are changing in this moment, or that an event must be read
 * first: the latter is the caller's. */
enum uffd_result uffd_protect(int fd, uint64_t hva, size_t bytes, bool on)
{
        struct uffdio_writeprotect w = {
                .range = { .start = hva, .len = bytes },
                .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
        };
        int errnum = EAGAIN;

        for (unsigned i = 0; errnum == EAGAIN && i < PROTECT_TRIES; i++) {
                if (i > 0)
                        sched_yield();
                errnum = ioctl(fd, UFFDIO_WRITEPROTECT, &w) < 0 ? errno : 0;
        }
        errno = errnum;
        return classify(errnum);
}

static int probe(int fd)
{
        struct uffdio_zeropage z = { .range = { .start = PROBE_HVA, .len = PAGE } };

        return ioctl(fd, UFFDIO_ZEROPAGE, &z) < 0 ? errno : 0;
}

/* Before UFFDIO_API each ioctl fails so, even when the address space has ended: nobody
 * could tell when. */
bool uffd_is_ready(int fd)
{
        return probe(fd) != EINVAL;
}

bool uffd_memory_gone(int fd)
{
        return probe(fd) == ESRCH;
}
