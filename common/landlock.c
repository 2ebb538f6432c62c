/* SPDX-License-Identifier: Apache-2.0 */
#include "common/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#define VERSION_ONLY 1u
#define RULE_PATH_BENEATH 1
#define TCP (3u << 0)                   /* BIND_TCP, CONNECT_TCP */
#define ABI_TCP 4

/* of a file that is no folder */
#define FILE_RIGHTS (LANDLOCK_EXECUTE | LANDLOCK_WRITE_FILE | LANDLOCK_READ_FILE | \
                     LANDLOCK_TRUNCATE | LANDLOCK_IOCTL_DEV)

struct ruleset_attr {
        uint64_t handled_access_fs;
        uint64_t handled_access_net;
};

struct path_beneath_attr {
        uint64_t allowed_access;
        int32_t parent_fd;
} __attribute__((packed));

static_assert(sizeof(struct path_beneath_attr) == 12, "as the kernel has it");

int landlock_abi(void)
{
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_ONLY);

        return abi > 0 ? (int)abi : 0;
}

/* what an ABI knows, of LANDLOCK_ALL */
static uint32_t known(int abi)
{
        uint32_t rights = LANDLOCK_ALL;

        if (abi < 5)
                rights &= ~LANDLOCK_IOCTL_DEV;
        if (abi < 3)
                rights &= ~LANDLOCK_TRUNCATE;
        if (abi < 2)
                rights &= ~LANDLOCK_REFER;
        return rights;
}

int landlock_new(uint32_t handled, bool no_tcp, struct landlock *ret, struct err *e)
{
        int abi = landlock_abi();
        struct ruleset_attr attr = { .handled_access_fs = handled & known(abi) };
        size_t bytes = sizeof(attr.handled_access_fs);

        ASSERT(handled && !(handled & ~LANDLOCK_ALL));
        *ret = LANDLOCK_NONE;
        if (abi == 0)
                return 0;
        if (no_tcp && abi >= ABI_TCP) {
                attr.handled_access_net = TCP;
                bytes = sizeof(attr);
        }
        ret->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, bytes, 0);
        ret->handled = (uint32_t)attr.handled_access_fs;
        return ret->fd < 0 ? err_set(e, errno, "make a ruleset of Landlock") : 0;
}

int landlock_allow(const struct landlock *l, int fd, uint32_t rights, struct err *e)
{
        struct path_beneath_attr rule = { .parent_fd = fd };
        struct stat st;

        if (l->fd < 0)
                return 0;
        if (fstat(fd, &st) < 0)
                return err_set(e, errno, "look at what may be used");
        rule.allowed_access = rights & l->handled & (S_ISDIR(st.st_mode) ? LANDLOCK_ALL
                                                                         : FILE_RIGHTS);
        if (!rule.allowed_access)
                return 0;
        if (syscall(SYS_landlock_add_rule, l->fd, RULE_PATH_BENEATH, &rule, 0) < 0 &&
            errno != EBADFD)
                return err_set(e, errno, "add a rule of Landlock");
        return 0;
}

int landlock_allow_path(const struct landlock *l, const char *path, uint32_t rights, struct err *e)
{
        AUTO_FD fd = l->fd < 0 ? -1 : open(path, O_PATH | O_CLOEXEC);
        int rc = fd < 0 ? 0 : landlock_allow(l, fd, rights, e);

        return rc < 0 ? err_in(e, rc, "'%s'", path) : 0;
}

int landlock_enter(const struct landlock *l, struct err *e)
{
        if (l->fd >= 0 && syscall(SYS_landlock_restrict_self, l->fd, 0) < 0)
                return err_set(e, errno, "enter a ruleset of Landlock");
        return 0;
}

void landlock_close(struct landlock *l)
{
        fd_close(&l->fd);
}
