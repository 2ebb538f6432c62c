/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/sandbox-calls.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>


#ifndef UFFDIO_POISON
#define UFFDIO_POISON 0xc020aa08u       /* Linux 6.6 */
#endif

/* ---- every thread ------------------------------------------------------------- */

static const struct filter_call transfer[] = {
        CALL(read), CALL(readv), CALL(pread64), CALL(preadv), CALL(preadv2),
        CALL(write), CALL(writev), CALL(pwrite64), CALL(pwritev), CALL(pwritev2),
        CALL(lseek), CALL(fstat), CALL(fallocate), CALL(fadvise64), CALL(close),
};

static const struct filter_call faults[] = {
        CALL_WHEN(ioctl, 1, UFFDIO_COPY),
        CALL_WHEN(ioctl, 1, UFFDIO_ZEROPAGE),
        CALL_WHEN(ioctl, 1, UFFDIO_WAKE),
        CALL_WHEN(ioctl, 1, UFFDIO_CONTINUE),
        CALL_WHEN(ioctl, 1, UFFDIO_POISON),
        CALL_WHEN(ioctl, 1, UFFDIO_WRITEPROTECT),
        /* what a client passes on */
        CALL(recvfrom),
        /* before Linux 6.10 */
        CALL_WHEN(fcntl, 1, F_GETFL), CALL_WHEN(fcntl, 1, F_SETFL),
};

const struct filter_group sandbox_every[] = {
        GROUP("images, caches, events: all by descriptors that are open", transfer),
        GROUP("pages into clients, and their threads woken", faults),
        GROUPS_END,
};

/* ---- the main thread besides ------------------------------------------------------ */

static const struct filter_call clients[] = {
        CALL(accept), CALL(accept4), CALL(recvmsg), CALL(sendmsg),
        CALL(sendto), CALL(shutdown), CALL(getsockopt), CALL(setsockopt), CALL(getsockname),
        CALL(getpeername), CALL_WHEN(ioctl, 1, FIONREAD), CALL(pidfd_open),
        CALL(pidfd_send_signal),
};

static const struct filter_call manager[] = {
        CALL_WHEN(socket, 0, AF_UNIX),
};

/* Locks belong to open files, which a client shares: without these two nobody would keep the
 * parents of its image (qcowstore/imglock.h). */
static const struct filter_call images[] = {
        CALL_WHEN(fcntl, 1, F_OFD_SETLK), CALL_WHEN(fcntl, 1, F_OFD_GETLK),
};

/* openat: the cache again for clients, read-only (INV-READONLY). Landlock lets it pass
 * because a memfd is in no file system that can be mounted. */
static const struct filter_call caches[] = {
        CALL(memfd_create), CALL(ftruncate), CALL(fchmod), CALL(dup),
        CALL_WHEN(fcntl, 1, F_DUPFD_CLOEXEC), CALL_WHEN(fcntl, 1, F_ADD_SEALS),
        CALL_WHEN(fcntl, 1, F_GET_SEALS), CALL_WHEN(fcntl, 1, F_GETFD),
        CALL_WHEN(fcntl, 1, F_SETFD),
        CALL(readlink), CALL(readlinkat), CALL(newfstatat), CALL(statx), CALL(fstatfs),
        CALL_WHEN(openat, 2, O_RDONLY | O_CLOEXEC),
};

/* its faults are never the kernel's, so no privilege is behind it */
static const struct filter_call alias[] = {
        CALL_WHEN(userfaultfd, 0, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY),
        CALL_WHEN(ioctl, 1, UFFDIO_API), CALL_WHEN(ioctl, 1, UFFDIO_REGISTER),
};

static const struct filter_call loop[] = {
        CALL(epoll_create1), CALL(eventfd2), CALL(timerfd_create), CALL(timerfd_settime),
        CALL(pipe2), CALL(rt_sigaction), CALL(socketpair),
};

static const struct filter_call figures[] = {
        CALL(getrusage), CALL(sysinfo), CALL(uname), CALL(getuid), CALL(geteuid),
        CALL(getgid), CALL(getegid), CALL(getppid), CALL_WHEN(prlimit64, 2, 0),
};

/* another filter only takes away; TSYNC is for others, and none is to listen */
static const struct filter_call helpers[] = {
        CALL_BITS(clone, 0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM),
        CALL_WHEN_BOTH(seccomp, IS(0, SECCOMP_SET_MODE_FILTER),
                       IS(1, SECCOMP_FILTER_FLAG_SPEC_ALLOW)),
        CALL_WHEN_BOTH(setpriority, IS(0, PRIO_PROCESS), IS(1, 0)),
};

static const struct filter_call leaving[] = {
        CALL(lstat), CALL(unlink), CALL(unlinkat),
};

const struct filter_group sandbox_main[] = {
        GROUP("clients come, talk, are known by their process, and go", clients),
        GROUP("readiness and descriptors for the service manager", manager),
        GROUP("images are kept from being changed while they are read", images),
        GROUP("image caches are made and shown; a descriptor is what it should be", caches),
        GROUP("the server's own mapping of a cache, to fill it", alias),
        GROUP("libevent's loop and what it watches", loop),
        GROUP("what is told of the server; no limit is changed", figures),
        GROUP("a thread of this process, which inherits all this and narrows it", helpers),
        GROUP("the socket is removed", leaving),
        GROUPS_END,
};
