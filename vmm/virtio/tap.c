/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/virtio/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "common/auto.h"
#include "common/check.h"

#define TUN_PATH "/dev/net/tun"
/* of a frame each, and no header but the one of virtio-net */
#define TAP_FLAGS (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)
#define INHERITED "fd:"

static int set_interface(int fd, const char *name)
{
        struct ifreq ifr = { .ifr_flags = TAP_FLAGS };

        snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
        return ioctl(fd, TUNSETIFF, &ifr) < 0 ? errno : 0;
}

static int refused(const char *name, int errnum, struct err *e)
{
        switch (errnum) {
        case EPERM:
                return err_msg(e, EPERM, "tap '%s' belongs to another user: delete it and make it "
                               "yours by `ip tuntap add dev %s mode tap user $USER`", name, name);
        case EBUSY:
                return err_msg(e, EBUSY, "tap '%s' is in use by another program: give each VM "
                               "a tap of its own", name);
        case EINVAL:
                return err_msg(e, EINVAL, "'%s' is not a tap of one queue: name one that "
                               "`ip tuntap add dev NAME mode tap user $USER` made", name);
        default:
                return err_set(e, errnum, "attach to tap '%s'", name);
        }
}

static int open_tun(const char *name, int *ret_fd, struct err *e)
{
        AUTO_FD fd = open(TUN_PATH, O_RDWR | O_NONBLOCK | O_CLOEXEC);

        if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
                return err_set(e, errno, "tap '%s' needs the kernel's module tun (`modprobe tun`): "
                               "open '" TUN_PATH "'", name);
        if (fd < 0)
                return err_set(e, errno, "tap '%s' needs access to a file: open '" TUN_PATH "'",
                               name);
        *ret_fd = fd_take(&fd);
        return 0;
}

static int open_named(const char *name, int *ret_fd, struct err *e)
{
        if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
                return err_msg(e, EINVAL, "'%s' is no name of a network interface: 1 to %d "
                               "characters", name, IFNAMSIZ - 1);
        if (if_nametoindex(name) == 0)
                return err_msg(e, ENODEV, "there is no tap '%s': make one by `ip tuntap add dev %s "
                               "mode tap user $USER` and `ip link set %s up`", name, name, name);

        AUTO_FD fd = -1;
        int rc = open_tun(name, &fd, e);

        if (rc < 0)
                return rc;
        rc = set_interface(fd, name);
        if (rc != 0)
                return refused(name, rc, e);
        *ret_fd = fd_take(&fd);
        return 0;
}

static int open_macvtap(const char *path, int *ret_fd, struct err *e)
{
        AUTO_FD fd = open(path, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

        if (fd < 0)
                return err_set(e, errno, "'%s' should be a macvtap's device file that you may "
                               "write to: open it", path);

        int rc = set_interface(fd, "");

        if (rc == ENOTTY || rc == EINVAL)
                return err_msg(e, EINVAL, "'%s' is not a macvtap's device file, /dev/tapN with the "
                               "N of /sys/class/net/NAME/ifindex", path);
        if (rc != 0)
                return refused(path, rc, e);
        *ret_fd = fd_take(&fd);
        return 0;
}

static int inherited_number(const char *name, int *ret, struct err *e)
{
        const char *digits = name + strlen(INHERITED);
        long n = 0;

        if (digits[0] == '\0' || digits[strspn(digits, "0123456789")] != '\0' ||
            strlen(digits) > 9)
                return err_msg(e, EINVAL, "'%s' names no descriptor: say fd:N, N as the program "
                               "that starts us has it", name);
        n = strtol(digits, NULL, 10);
        if (fcntl((int)n, F_GETFD) < 0)
                return err_msg(e, EBADF, "there is no descriptor '%s': whoever starts us must have "
                               "it open, without close-on-exec", name);
        *ret = (int)n;
        return 0;
}

/* It is only taken, and so closed on failure, once it is known to be a tap. */
static int open_inherited(const char *name, int *ret_fd, struct err *e)
{
        struct ifreq ifr = { .ifr_flags = 0 };
        int n = -1;
        int rc = inherited_number(name, &n, e);

        if (rc < 0)
                return rc;
        if (ioctl(n, TUNGETIFF, &ifr) < 0)
                return err_msg(e, EINVAL, "'%s' is not a tap's descriptor", name);
        if ((ifr.ifr_flags & TAP_FLAGS) != TAP_FLAGS)
                return err_msg(e, EINVAL, "'%s' is '%.*s', but not with the flags IFF_TAP, "
                               "IFF_NO_PI and IFF_VNET_HDR: whoever opened it must ask for these",
                               name, IFNAMSIZ, ifr.ifr_name);

        int flags = fcntl(n, F_GETFL);

        if (flags < 0 || fcntl(n, F_SETFL, flags | O_NONBLOCK) < 0 ||
            fcntl(n, F_SETFD, FD_CLOEXEC) < 0)
                return err_set(e, errno, "'%s': make it nonblocking", name);
        *ret_fd = n;
        return 0;
}

/* What a persistent tap still has from whoever used it before is set anew. */
static int prepare(const char *name, int fd, struct err *e)
{
        int bytes = TAP_HEADER_BYTES, little_endian = 1;

        if (ioctl(fd, TUNSETVNETHDRSZ, &bytes) < 0)
                return err_set(e, errno, "tap '%s': ask for headers of %d bytes", name, bytes);
        if (ioctl(fd, TUNSETVNETLE, &little_endian) < 0)
                return err_set(e, errno, "tap '%s': ask for little-endian headers", name);

        int rc = tap_set_offloads(fd, 0, e);

        return rc < 0 ? err_in(e, rc, "tap '%s'", name) : 0;
}

int tap_open(const char *name, int *ret_fd, struct err *e)
{
        AUTO_FD fd = -1;
        int rc = strncmp(name, INHERITED, strlen(INHERITED)) == 0 ? open_inherited(name, &fd, e)
                 : name[0] == '/' ? open_macvtap(name, &fd, e) : open_named(name, &fd, e);

        if (rc == 0)
                rc = prepare(name, fd, e);
        if (rc == 0)
                *ret_fd = fd_take(&fd);
        return rc;
}

int tap_set_offloads(int fd, unsigned offloads, struct err *e)
{
        if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)offloads) < 0)
                return err_set(e, errno, "ask for offloads %#x", offloads);
        return 0;
}

unsigned tap_offloads(int fd)
{
        /* each with what it needs, in that order */
        static const struct {
                unsigned offload, needs;
        } probes[] = {
                { TUN_F_CSUM, 0 },
                { TUN_F_TSO4, TUN_F_CSUM },
                { TUN_F_TSO6, TUN_F_CSUM },
                { TUN_F_TSO_ECN, TUN_F_CSUM | TUN_F_TSO4 },
        };
        unsigned found = 0;

        for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
                if ((found & probes[i].needs) == probes[i].needs &&
                    tap_set_offloads(fd, probes[i].offload | probes[i].needs, NULL) == 0)
                        found |= probes[i].offload;
        }
        if (found)
                tap_set_offloads(fd, 0, NULL);
        return found;
}
