/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/doctor-probe.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/landlock.h"
#include "pageserver/uffd.h"
#include "vmm/disk/nameless.h"
#include "vmm/memroom.h"
#include "vmm/pagemapscan.h"
#include "vmm/program-path.h"
#include "vmm/rundir.h"

#define PAGE 4096u
/* of /proc/cpuinfo: the first CPU */
#define CPUINFO_BYTES 8192u
#define TUN "/dev/net/tun"
#define POOL "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define THP "/sys/kernel/mm/transparent_hugepage/enabled"
#define CLOCKSOURCE "/sys/devices/system/clocksource/clocksource0/current_clocksource"

/* The start of a file of the kernel, as a string; "" when it is not there. */
static void read_start(const char *path, char *buf, size_t room)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, buf, room - 1) : 0;

        buf[MAX(n, 0)] = '\0';
}

static void read_word(const char *path, char word[DOCTOR_WORD_MAX])
{
        read_start(path, word, DOCTOR_WORD_MAX);
        word[strcspn(word, " \n")] = '\0';
}

static uint64_t read_number(const char *path)
{
        char word[DOCTOR_WORD_MAX];

        read_word(path, word);
        return strtoull(word, NULL, 10);
}

static void probe_kernel(struct doctor_host *h)
{
        struct utsname name;

        if (uname(&name) < 0 ||
            sscanf(name.release, "%u.%u", &h->kernel_major, &h->kernel_minor) != 2)
                h->kernel_major = h->kernel_minor = 0;
        read_word("/sys/module/kvm/parameters/nx_huge_pages", h->nx_huge_pages);
}

static bool has_pagemap_scan(void)
{
        AUTO_FD fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        uint64_t here = ALIGN_DOWN((uintptr_t)&fd, PAGE);
        struct pagemapscan_region region;
        struct pagemapscan scan = {
                .size = sizeof(scan), .start_hva = here, .end_hva = here + PAGE,
                .regions = (uintptr_t)&region, .regions_max = 1, .any_of = PAGE_PRESENT,
        };

        return fd >= 0 && ioctl(fd, PAGEMAPSCAN, &scan) >= 0;
}

static void probe_uffd(struct doctor_host *h)
{
        AUTO_FD fd = -1;

        (void)uffd_open(0, &fd, &h->uffd);
        h->uffd_features = uffd_features();
        h->pagemap_scan = has_pagemap_scan();
}

/* "always [madvise] never" */
static void probe_thp(struct doctor_host *h)
{
        char text[64];
        char *chosen;

        read_start(THP, text, sizeof(text));
        chosen = strchr(text, '[');
        if (chosen)
                snprintf(h->thp, sizeof(h->thp), "%.*s", (int)strcspn(chosen + 1, "]"),
                         chosen + 1);
}

static void probe_memory(struct doctor_host *h)
{
        h->huge_pages = read_number(POOL "nr_hugepages");
        h->huge_pages_free = read_number(POOL "free_hugepages");
        probe_thp(h);
        h->memory_bytes = memroom_bytes();
        h->overcommit = read_number("/proc/sys/vm/overcommit_memory");
}

static uint64_t limit_of(__rlimit_resource_t resource)
{
        struct rlimit limit;

        return getrlimit(resource, &limit) == 0 ? limit.rlim_cur : UINT64_MAX;
}

static int may_write(const char *path)
{
        return access(path, W_OK | X_OK) == 0 ? 0 : errno;
}

/* One that is not there yet can be made, with the mode that makes it private. */
static void probe_missing_runtime(struct doctor_host *h, const char *folder)
{
        struct rundir_path above;

        snprintf(above.text, sizeof(above.text), "%s", folder);

        int errnum = may_write(dirname(above.text));

        h->runtime_private = true;
        if (errnum)
                err_set(&h->runtime, errnum, "make runtime folder '%s' (or set VMM_RUNTIME_DIR)",
                        folder);
}

static void probe_runtime(struct doctor_host *h)
{
        struct rundir_path socket;
        struct stat st;

        if (rundir_path(&socket, "x", "sock", &h->runtime) < 0)
                return;

        const char *folder = dirname(socket.text);

        if (stat(folder, &st) < 0) {
                probe_missing_runtime(h, folder);
                return;
        }

        int errnum = S_ISDIR(st.st_mode) ? may_write(folder) : ENOTDIR;

        h->runtime_private = st.st_uid == geteuid() && !(st.st_mode & (S_IRWXG | S_IRWXO));
        if (errnum)
                err_set(&h->runtime, errnum, "use runtime folder '%s' (or set VMM_RUNTIME_DIR to "
                        "one of your own)", folder);
}

static void probe_tap(struct doctor_host *h)
{
        AUTO_FD fd = open(TUN, O_RDWR | O_CLOEXEC);

        h->tun_errno = fd < 0 ? errno : 0;
}

static int clone_block(const char *folder, int from)
{
        static const char block[PAGE];
        AUTO_FD to = -1;
        int rc = nameless_file(folder, folder, &to, NULL);

        if (rc == 0)
                rc = io_pwrite_full(from, block, sizeof(block), 0);
        if (rc == 0)
                rc = ioctl(to, FICLONE, from) < 0 ? -errno : 0;
        return -rc;
}

static void probe_reflink(struct doctor_host *h, const char *folder)
{
        AUTO_FD from = -1;

        h->nameless_errno = -nameless_file(folder, folder, &from, NULL);
        if (h->nameless_errno == 0)
                h->reflink_errno = clone_block(folder, from);
}

static void probe_clock(struct doctor_host *h)
{
        AUTO_FREE char *text = calloc(1, CPUINFO_BYTES);

        if (text) {
                read_start("/proc/cpuinfo", text, CPUINFO_BYTES);
                h->tsc_steady = strstr(text, " constant_tsc") && strstr(text, " nonstop_tsc");
        }
        read_word(CLOCKSOURCE, h->clocksource);
}

void doctor_probe(const char *folder, struct doctor_host *ret)
{
        char path[PATH_MAX];

        *ret = (struct doctor_host){ 0 };
        probe_kernel(ret);
        doctor_try_kvm(ret);
        probe_uffd(ret);
        probe_memory(ret);
        ret->calls_limited = HAVE_SECCOMP && !SANITIZED && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
        ret->landlock_abi = landlock_abi();
        ret->is_root = geteuid() == 0;
        ret->open_files = limit_of(RLIMIT_NOFILE);
        ret->pending_signals = limit_of(RLIMIT_SIGPENDING);
        probe_runtime(ret);
        (void)pageserver_path(path, sizeof(path), &ret->pageserver);
        probe_tap(ret);
        probe_reflink(ret, folder);
        probe_clock(ret);
}
