/* SPDX-License-Identifier: Apache-2.0 */
/* failnth - an LD_PRELOAD library that lets the Nth call that changes files
 * fail, or end the process there.
 *
 *   FAILNTH=N        which call, from 1; 0 or unset = none
 *   FAILNTH_MODE     "fail" (EIO), "full" (ENOSPC) or "kill"
 *   FAILNTH_NO_TMPFILE  set: O_TMPFILE is refused, as by file systems without
 *   FAILNTH_HINTS    set: fallocate and sync_file_range count too, though nothing
 *                    depends on them
 *   FAILNTH_SLOW=MS  every call takes so much longer
 *   FAILNTH_SLOW_READS=MS  so does every pread, which is not counted
 *   FAILNTH_LOG      a file to which the name of every call is appended
 *
 * Counted: pwrite, pwritev, fdatasync, fsync, linkat, renameat, renameat2,
 * ftruncate, and openat for writing. Where threads write, which call is the
 * Nth differs from run to run, but not how many there are.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* the one thing that must outlive a call */
static _Atomic unsigned long calls;

static unsigned long wanted(void)
{
        const char *n = getenv("FAILNTH");

        return n ? strtoul(n, NULL, 10) : 0;
}

/* one write of a short line, whole also among threads */
static void note(const char *name)
{
        const char *path = getenv("FAILNTH_LOG");
        int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
        char line[32];
        int n = snprintf(line, sizeof(line), "%s\n", name);

        if (fd >= 0 && write(fd, line, (size_t)n) != n)
                abort();
        close(fd);
}

static void dawdle(const char *variable)
{
        const char *ms = getenv(variable);

        if (ms)
                usleep(1000 * (useconds_t)strtoul(ms, NULL, 10));
}

/* -1 and errno when this call is to fail */
static int hit(const char *name)
{
        const char *mode = getenv("FAILNTH_MODE");

        note(name);
        dawdle("FAILNTH_SLOW");
        if (++calls != wanted())
                return 0;
        if (mode && strcmp(mode, "kill") == 0)
                raise(SIGKILL);
        errno = mode && strcmp(mode, "full") == 0 ? ENOSPC : EIO;
        return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite(int fd, const void *buf, size_t n, off_t at)
{
        return hit("pwrite") ? -1 : REAL(pwrite)(fd, buf, n, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t at)
{
        return hit("pwrite") ? -1 : REAL(pwrite64)(fd, buf, n, at);
}

ssize_t pwritev(int fd, const struct iovec *v, int n, off_t at)
{
        return hit("pwritev") ? -1 : REAL(pwritev)(fd, v, n, at);
}

ssize_t pwritev64(int fd, const struct iovec *v, int n, off64_t at)
{
        return hit("pwritev") ? -1 : REAL(pwritev64)(fd, v, n, at);
}

ssize_t pread(int fd, void *buf, size_t n, off_t at)
{
        dawdle("FAILNTH_SLOW_READS");
        return REAL(pread)(fd, buf, n, at);
}

ssize_t pread64(int fd, void *buf, size_t n, off64_t at)
{
        dawdle("FAILNTH_SLOW_READS");
        return REAL(pread64)(fd, buf, n, at);
}

int fdatasync(int fd)
{
        return hit("fdatasync") ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
        return hit("fsync") ? -1 : REAL(fsync)(fd);
}

int ftruncate(int fd, off_t n)
{
        return hit("ftruncate") ? -1 : REAL(ftruncate)(fd, n);
}

int ftruncate64(int fd, off64_t n)
{
        return hit("ftruncate") ? -1 : REAL(ftruncate64)(fd, n);
}

static int hint(const char *name)
{
        return getenv("FAILNTH_HINTS") ? hit(name) : 0;
}

int fallocate(int fd, int mode, off_t at, off_t n)
{
        return hint("fallocate") ? -1 : REAL(fallocate)(fd, mode, at, n);
}

int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
        return hint("fallocate") ? -1 : REAL(fallocate64)(fd, mode, at, n);
}

int sync_file_range(int fd, off64_t at, off64_t n, unsigned flags)
{
        return hint("sync_file_range") ? -1 : REAL(sync_file_range)(fd, at, n, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
        return hit("linkat") ? -1 : REAL(linkat)(from_dir, from, to_dir, to, flags);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
        return hit("renameat") ? -1 : REAL(renameat)(from_dir, from, to_dir, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
        return hit("renameat2") ? -1 : REAL(renameat2)(from_dir, from, to_dir, to, flags);
}

static int refuse_open(int flags)
{
        if ((flags & O_TMPFILE) == O_TMPFILE && getenv("FAILNTH_NO_TMPFILE")) {
                errno = EOPNOTSUPP;
                return -1;
        }
        return (flags & O_ACCMODE) == O_RDONLY ? 0 : hit("openat");
}

int openat(int dir, const char *path, int flags, ...)
{
        va_list ap;

        va_start(ap, flags);
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;

        va_end(ap);
        return refuse_open(flags) ? -1 : REAL(openat)(dir, path, flags, mode);
}

int openat64(int dir, const char *path, int flags, ...)
{
        va_list ap;

        va_start(ap, flags);
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(ap, mode_t) : 0;

        va_end(ap);
        return refuse_open(flags) ? -1 : REAL(openat64)(dir, path, flags, mode);
}
