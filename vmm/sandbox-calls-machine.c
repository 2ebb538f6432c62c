/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox-calls.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "vmm/pagemapscan.h"

#ifndef UFFDIO_POISON
#define UFFDIO_POISON 0xc020aa08u       /* Linux 6.6 */
#endif

/* ---- vCPUs ---------------------------------------------------------------------- */

static const struct filter_call guest[] = {
        CALL_WHEN(ioctl, 1, KVM_RUN),
        /* of what it was doing when it ended */
        CALL_WHEN(ioctl, 1, KVM_GET_REGS),
        CALL_WHEN(ioctl, 1, KVM_IRQ_LINE),
};

static const struct filter_call doorbells[] = {
        CALL(read), CALL(write), CALL(writev), CALL(close),
};

static const struct filter_call device_loops[] = {
        CALL(eventfd2), CALL(epoll_create1), CALL(timerfd_create), CALL(pipe2), CALL(socketpair),
        CALL_WHEN(fcntl, 1, F_GETFL), CALL_WHEN(fcntl, 1, F_SETFL),
        CALL_WHEN(fcntl, 1, F_GETFD), CALL_WHEN(fcntl, 1, F_SETFD),
};

const struct filter_group sandbox_vcpu[] = {
        GROUP("to run the guest and interrupt it", guest),
        GROUP("threads and devices are told; the console's file", doorbells),
        GROUP("a device's event loop, when its driver sets it up", device_loops),
        GROUPS_END,
};

/* ---- virtio devices ------------------------------------------------------------- */

static const struct filter_call setting_up[] = {
        CALL_WHEN(ioctl, 1, KVM_IRQFD), CALL_WHEN(ioctl, 1, KVM_IOEVENTFD),
        CALL_WHEN(ioctl, 1, KVM_IRQ_LINE),
};

static const struct filter_call events[] = {
        CALL(timerfd_settime),
};

static const struct filter_call taps[] = {
        CALL_WHEN(ioctl, 1, TUNSETOFFLOAD), CALL_WHEN(ioctl, 1, TUNSETVNETHDRSZ),
        CALL_WHEN(ioctl, 1, TUNSETVNETLE), CALL_WHEN(ioctl, 1, TUNGETIFF),
};

static const struct filter_call vsocks[] = {
        CALL_WHEN(socket, 0, AF_UNIX), CALL(connect), CALL(accept), CALL(accept4),
        CALL(recvfrom), CALL(recvmsg), CALL(sendto), CALL(sendmsg), CALL(shutdown),
        CALL(getsockopt), CALL(setsockopt), CALL_WHEN(ioctl, 1, FIONREAD),
        /* to look at what is connected to: no file is opened by that (INV-NO-LINK) */
        CALL_WHEN(openat, 2, O_PATH | O_NOFOLLOW | O_CLOEXEC),
};

const struct filter_group sandbox_device[] = {
        GROUP("kicks and interrupts, once the driver has set the device up", setting_up),
        GROUP("timers of its event loop", events),
        GROUP("what of a frame's checks the tap is to do", taps),
        GROUP("a guest's connections to sockets of this host, and theirs to it", vsocks),
        GROUPS_END,
};

/* ---- disks ---------------------------------------------------------------------- */

static const struct filter_call durable[] = {
        CALL(fsync), CALL(fdatasync), CALL(sync_file_range),
};

static const struct filter_call holes[] = {
        CALL_WHEN(ioctl, 1, BLKDISCARD), CALL_WHEN(ioctl, 1, BLKZEROOUT),
        CALL_WHEN(ioctl, 1, BLKSSZGET), CALL_WHEN(ioctl, 1, BLKGETSIZE64),
};

static const struct filter_call aside[] = {
        CALL(copy_file_range), CALL_WHEN(ioctl, 1, FICLONE), CALL_WHEN(ioctl, 1, FICLONERANGE),
};

const struct filter_group sandbox_disk[] = {
        GROUP("a guest's flush", durable),
        GROUP("a guest's discard, on files and block devices", holes),
        GROUP("what a disk held at the moment of a save, or below an overlay", aside),
        GROUPS_END,
};

/* ---- guards and crews ----------------------------------------------------------- */

static const struct filter_call pages[] = {
        CALL_WHEN(ioctl, 1, UFFDIO_COPY),
        CALL_WHEN(ioctl, 1, UFFDIO_ZEROPAGE),
        CALL_WHEN(ioctl, 1, UFFDIO_WAKE),
        CALL_WHEN(ioctl, 1, UFFDIO_CONTINUE),
        CALL_WHEN(ioctl, 1, UFFDIO_POISON),
        CALL_WHEN(ioctl, 1, UFFDIO_WRITEPROTECT),
        CALL_WHEN(ioctl, 1, PAGEMAPSCAN),
};

static const struct filter_call passing[] = {
        CALL(sendto),
};

const struct filter_group sandbox_guard[] = {
        GROUP("pages are protected, let go, filled; which a guest wrote", pages),
        GROUP("faults of pages that are missing go on to the page server (lease.h)", passing),
        GROUPS_END,
};

static const struct filter_call place[] = {
        CALL_WHEN_BOTH(setpriority, IS(0, 0), IS(1, 0)), CALL(getpriority),
};

const struct filter_group sandbox_copy[] = {
        GROUP("behind the guest, if it runs", place),
        GROUPS_END,
};
