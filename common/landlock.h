/* SPDX-License-Identifier: Apache-2.0 */
/* landlock.h - rulesets of Landlock: what a thread may still do with files that it names.
 *
 * A ruleset handles some rights; each of them is denied but beneath the folders (or of the
 * files) where it is allowed. What is open already is not concerned, nor is what no right
 * stands for: looking (stat, readlink), connecting to a socket, changing modes and times.
 *
 * Rights that the kernel at hand does not know are left out, where they are handled as where
 * they are allowed: so callers name all that they mean, and get what there is.
 *
 * Besides, whoever has entered any ruleset traces only those who have entered the same ones,
 * which includes /proc/PID/{fd,mem,maps...} of others, and moves no file to another folder.
 *
 * Ownership: in place. Threads: a ruleset is constant once entered; entering concerns the
 * calling thread, and those that it starts afterwards.
 */
#ifndef COMMON_LANDLOCK_H
#define COMMON_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* The kernel's bits. linux/landlock.h is younger than the systems that we build on. */
#define LANDLOCK_EXECUTE        (1u << 0)
#define LANDLOCK_WRITE_FILE     (1u << 1)
#define LANDLOCK_READ_FILE      (1u << 2)
#define LANDLOCK_READ_DIR       (1u << 3)
#define LANDLOCK_REMOVE_DIR     (1u << 4)
#define LANDLOCK_REMOVE_FILE    (1u << 5)
#define LANDLOCK_MAKE_CHAR      (1u << 6)
#define LANDLOCK_MAKE_DIR       (1u << 7)
#define LANDLOCK_MAKE_REG       (1u << 8)
#define LANDLOCK_MAKE_SOCK      (1u << 9)
#define LANDLOCK_MAKE_FIFO      (1u << 10)
#define LANDLOCK_MAKE_BLOCK     (1u << 11)
#define LANDLOCK_MAKE_SYM       (1u << 12)
#define LANDLOCK_REFER          (1u << 13)      /* ABI 2; denied in any case, unless allowed */
#define LANDLOCK_TRUNCATE       (1u << 14)      /* ABI 3 */
#define LANDLOCK_IOCTL_DEV      (1u << 15)      /* ABI 5 */
#define LANDLOCK_ALL            ((1u << 16) - 1)

struct landlock {
        int fd;                         /* -1 = the kernel has none: entering does nothing */
        uint32_t handled;
        bool no_tcp;
};

#define LANDLOCK_NONE ((struct landlock){ .fd = -1 })

/* 0 = the kernel has no Landlock, or it was not enabled at boot (lsm=) */
int landlock_abi(void);

/* no_tcp: neither listens nor connects by TCP, where the kernel can forbid it (ABI 4). */
int landlock_new(uint32_t handled, bool no_tcp, struct landlock *ret, struct err *e);
/* Beneath what fd is open on, also O_PATH: a folder, or a file, of which only the rights that
 * files have count. What the kernel has no rules for (pipes, memfds) is let be. */
int landlock_allow(const struct landlock *l, int fd, uint32_t rights, struct err *e);
/* The same by name; one that is not there, or not for us, needs no rule. */
int landlock_allow_path(const struct landlock *l, const char *path, uint32_t rights,
                        struct err *e);
/* Cannot be undone. Asks for no_new_privs of who has no privileges. */
int landlock_enter(const struct landlock *l, struct err *e);
void landlock_close(struct landlock *l);

#endif
