/* SPDX-License-Identifier: Apache-2.0 */
/* uffd.h - userfaultfd as we use it: opened with what the kernel has, errors classified once.
 *
 * Threads: all functions may be called from any thread.
 */
#ifndef PAGESERVER_UFFD_H
#define PAGESERVER_UFFD_H

#include <linux/userfaultfd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"

/* of Linux 5.19; older headers lack it */
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
#define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif

/* A userfaultfd that also takes faults from kernel mode (KVM needs that):
 * by /dev/userfaultfd, else the system call. Non-blocking, close-on-exec.
 * features: UFFD_FEATURE_* that must be there. The error names what is missing
 * and the remedy (group of /dev/userfaultfd, CAP_SYS_PTRACE,
 * vm.unprivileged_userfaultfd=1, or a newer kernel). */
int uffd_open(uint64_t features, int *ret_fd, struct err *e);

/* Of uffd_open(), for uffd_protect(): of anonymous memory (Linux 5.7), and of what is mapped
 * from a memfd or hugetlbfs (5.19). */
#define UFFD_PROTECT_ANONYMOUS UFFD_FEATURE_PAGEFAULT_FLAG_WP
#define UFFD_PROTECT_FILE (UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_HUGETLBFS_SHMEM)

/* One that takes only faults of this process's own threads in user mode, and needs no
 * privilege: for memory that nobody touches but by the calls below. */
int uffd_open_own(uint64_t features, int *ret_fd, struct err *e);

/* UFFD_FEATURE_* of this kernel, whoever asks; 0 = it has no userfaultfd, or not for us. */
uint64_t uffd_features(void);

/* Whether a descriptor that somebody sent us is one, and whether that can be used:
 * UFFDIO_API was done. */
bool uffd_is(int fd);
bool uffd_is_ready(int fd);

/* Messages into buf: bytes, 0 when none waits, or a negative errno. The descriptor's
 * O_NONBLOCK is its client's too: he can clear it, and take the message for which it was
 * readable. That blocks nobody here from Linux 6.10 on; before, only who does both at
 * the right moment can hold up the reader. */
ssize_t uffd_read(int fd, void *buf, size_t bytes);

/* MISSING over [hva, hva+bytes), page aligned. */
int uffd_register_missing(int fd, uint64_t hva, uint64_t bytes, struct err *e);
/* Writes too; missing: whose missing pages are told stays told. What was registered for
 * missing pages only can be registered again so. The way back is not: a range keeps what
 * it was registered for until it is unregistered, which costs nothing where nothing is
 * protected any more. */
int uffd_register_protect(int fd, uint64_t hva, uint64_t bytes, bool missing, struct err *e);

enum uffd_result {
        UFFD_DONE,              /* all bytes are in place and waiters woken        */
        UFFD_RETRY,             /* an event must be read first, or mappings change */
        UFFD_GONE,              /* the client's memory is gone (ESRCH, ENOENT)     */
        UFFD_FAILED,            /* anything else: a bug or no memory; errno tells  */
};

/* Pages that are there already are skipped, and so are those that are not mapped any
 * more, as long as others are: GONE says that all are gone. page_bytes is the size of the client's.
 * uffd_zero() is for small ones: the kernel has no huge zero page here. */
enum uffd_result uffd_copy(int fd, uint64_t hva, const void *src, size_t bytes,
                           size_t page_bytes);
enum uffd_result uffd_zero(int fd, uint64_t hva, size_t bytes);
/* One call: true when all the pages were missing and are there now. */
bool uffd_copy_absent(int fd, uint64_t hva, const void *src, size_t bytes);
/* Whoever touches a page that is not there gets SIGBUS. UFFD_FAILED on kernels before
 * 6.6. */
enum uffd_result uffd_poison(int fd, uint64_t hva, size_t bytes);
enum uffd_result uffd_wake(int fd, uint64_t hva, size_t bytes);
/* Writes to what is in [hva, hva+bytes) are told (on), or go on as before (off), those who
 * wait there too; within one registered range. Pages that are not there are not protected,
 * but for those of a file, until uffd_copy() brings them. UFFD_GONE: not all of it is
 * registered so, or the memory has ended. */
enum uffd_result uffd_protect(int fd, uint64_t hva, size_t bytes, bool on);

/* The address space behind the descriptor has ended: no thread of it, nor any
 * kernel worker on its behalf, will touch its memory again (INV-HOLE). */
bool uffd_memory_gone(int fd);

#endif
