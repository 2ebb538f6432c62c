/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each finding about a host is judged as the manual says, with a remedy whenever it is
 *       not well, and never for more than one check, but where nothing can run at all.
 * Method: a good host, with one thing changed in each row.
 */
#include "vmm/doctor.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "pageserver/uffd.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define MIB (1ull << 20)

static const struct doctor_host good = {
        .kernel_major = 6, .kernel_minor = 18, .create_us = 900, .ring0_per_s = 2000000000,
        .nx_huge_pages = "never",
        .uffd_features = UFFD_FEATURE_MISSING_SHMEM | UFFD_PROTECT_FILE | 1ull << 14,
        .pagemap_scan = true, .huge_pages = 64, .huge_pages_free = 32, .thp = "madvise",
        .memory_bytes = 4096 * MIB, .open_files = 1024, .pending_signals = 1024,
        .calls_limited = true, .landlock_abi = 7, .runtime_private = true,
        .tsc_steady = true, .clocksource = "tsc",
};

static const struct err denied = { .code = -EACCES, .text = "nobody may: ask for it" };

static void old_kernel(struct doctor_host *h) { h->kernel_major = 5; h->kernel_minor = 14; }
static void oldest_kernel(struct doctor_host *h) { h->kernel_major = 5; h->kernel_minor = 15; }
static void kernel_7(struct doctor_host *h) { h->kernel_major = 7; h->kernel_minor = 0; }
static void no_kvm(struct doctor_host *h) { h->kvm = h->vm = denied; h->ring0_per_s = 0; }
static void no_vm(struct doctor_host *h) { h->vm = denied; h->ring0_per_s = 0; }
static void slow_vm(struct doctor_host *h) { h->create_us = 10000; }
static void almost_slow_vm(struct doctor_host *h) { h->create_us = 9999; }
static void slow_vm_nx(struct doctor_host *h)
{
        h->create_us = 40000;
        strcpy(h->nx_huge_pages, "N");
}
static void emulated(struct doctor_host *h) { h->ring0_per_s = 1200000; }
static void emulated_by_qemu(struct doctor_host *h) { h->ring0_per_s = 60000000; }
static void no_uffd(struct doctor_host *h) { h->uffd = denied; }
static void no_shmem(struct doctor_host *h) { h->uffd_features &= ~UFFD_FEATURE_MISSING_SHMEM; }
static void no_protect(struct doctor_host *h) { h->uffd_features = UFFD_FEATURE_MISSING_SHMEM; }
static void no_protect_file(struct doctor_host *h)
{
        h->uffd_features &= ~(uint64_t)UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
}
static void no_poison(struct doctor_host *h) { h->uffd_features &= ~(1ull << 14); }
static void no_scan(struct doctor_host *h) { h->pagemap_scan = false; }
static void no_pool(struct doctor_host *h) { h->huge_pages = h->huge_pages_free = 0; }
static void used_pool(struct doctor_host *h) { h->huge_pages_free = 0; }
static void no_thp(struct doctor_host *h) { h->thp[0] = '\0'; }
static void little_memory(struct doctor_host *h) { h->memory_bytes = 64 * MIB - 1; }
static void enough_memory(struct doctor_host *h) { h->memory_bytes = 64 * MIB; }
static void unknown_memory(struct doctor_host *h) { h->memory_bytes = UINT64_MAX; }
static void strict(struct doctor_host *h) { h->overcommit = 2; }
static void always(struct doctor_host *h) { h->overcommit = 1; }
static void few_files(struct doctor_host *h) { h->open_files = 255; }
static void few_signals(struct doctor_host *h) { h->pending_signals = 63; }
static void no_seccomp(struct doctor_host *h) { h->calls_limited = false; }
static void no_landlock(struct doctor_host *h) { h->landlock_abi = 0; }
static void old_landlock(struct doctor_host *h) { h->landlock_abi = 2; }
static void landlock_6_2(struct doctor_host *h) { h->landlock_abi = 3; }
static void root(struct doctor_host *h) { h->is_root = true; }
static void no_runtime(struct doctor_host *h) { h->runtime = denied; }
static void open_runtime(struct doctor_host *h) { h->runtime_private = false; }
static void no_server(struct doctor_host *h) { h->pageserver = denied; }
static void no_tun(struct doctor_host *h) { h->tun_errno = ENOENT; }
static void tun_denied(struct doctor_host *h) { h->tun_errno = EACCES; }
static void no_folder(struct doctor_host *h) { h->nameless_errno = ENOENT; }
static void no_reflink(struct doctor_host *h) { h->reflink_errno = EOPNOTSUPP; }
static void bad_tsc(struct doctor_host *h) { h->tsc_steady = false; }
static void hpet(struct doctor_host *h) { strcpy(h->clocksource, "hpet"); }
static void kvm_clock(struct doctor_host *h) { strcpy(h->clocksource, "kvm-clock"); }

struct row {
        const char *row;
        void (*change)(struct doctor_host *h);
        const char *check;              /* the only one that is not OK; NULL = all are */
        enum doctor_verdict want;
        const char *text;               /* in what is found, and in the remedy */
        const char *remedy;
};

static const struct row rows[] = {
        { "Linux 5.14", old_kernel, "kernel", DOCTOR_WARNING, "5.14", "5.15" },
        { "Linux 5.15", oldest_kernel, NULL, DOCTOR_OK, NULL, NULL },
        { "Linux 7.0", kernel_7, NULL, DOCTOR_OK, NULL, NULL },
        { "a slow VM", slow_vm, "machine", DOCTOR_WARNING, "10.0 ms", "favordynmods" },
        { "a VM just fast", almost_slow_vm, NULL, DOCTOR_OK, NULL, NULL },
        { "a thread a VM", slow_vm_nx, "machine", DOCTOR_WARNING, "nx_huge_pages=N",
          "nx_huge_pages=never" },
        { "emulated kernels", emulated, "speed", DOCTOR_WARNING, "1 million", "VMX or SVM" },
        { "all of it emulated", emulated_by_qemu, NULL, DOCTOR_OK, NULL, NULL },
        { "userfaultfd denied", no_uffd, "userfaultfd", DOCTOR_MISSING, "postcopy", "ask for it" },
        { "no faults of shmem", no_shmem, "userfaultfd", DOCTOR_MISSING, "shared", "SHMEM" },
        { "no protection", no_protect, "watching", DOCTOR_WARNING, "stand still", "5.7" },
        { "none of files", no_protect_file, "watching", DOCTOR_WARNING, "page server", "5.19" },
        { "no poison", no_poison, "watching", DOCTOR_WARNING, "damaged", "6.6" },
        { "no PAGEMAP_SCAN", no_scan, "pagemap", DOCTOR_WARNING, "page by page", "6.7" },
        { "no pool", no_pool, "hugepages", DOCTOR_WARNING, "none of 0", "nr_hugepages" },
        { "a pool in use", used_pool, "hugepages", DOCTOR_WARNING, "none of 64", "nr_hugepages" },
        { "no THP", no_thp, NULL, DOCTOR_OK, NULL, NULL },
        { "too little memory", little_memory, "memory", DOCTOR_MISSING, "smallest",
          "control group" },
        { "just enough", enough_memory, NULL, DOCTOR_OK, NULL, NULL },
        { "memory unknown", unknown_memory, NULL, DOCTOR_OK, NULL, NULL },
        { "strict accounting", strict, "memory", DOCTOR_WARNING, "promises", "overcommit" },
        { "overcommit always", always, NULL, DOCTOR_OK, NULL, NULL },
        { "few files", few_files, "limits", DOCTOR_WARNING, "255", "ulimit -n" },
        { "no seccomp", no_seccomp, "seccomp", DOCTOR_WARNING, "not limited", "libseccomp" },
        { "no Landlock", no_landlock, "landlock", DOCTOR_WARNING, "lacks", "lsm=" },
        { "an old Landlock", old_landlock, "landlock", DOCTOR_WARNING, "ABI 2", "6.2" },
        { "Landlock of 6.2", landlock_6_2, NULL, DOCTOR_OK, NULL, NULL },
        { "root", root, "user", DOCTOR_WARNING, "root's", "--user" },
        { "few signals", few_signals, "limits", DOCTOR_WARNING, "63", "ulimit -i" },
        { "no runtime folder", no_runtime, "runtime", DOCTOR_MISSING, "name", "ask for it" },
        { "an open one", open_runtime, "runtime", DOCTOR_WARNING, "other users", "0700" },
        { "no page server", no_server, "pageserver", DOCTOR_MISSING, "--pageserver", "ask for it" },
        { "no tun", no_tun, "tap", DOCTOR_WARNING, "no network", "modprobe" },
        { "tun denied", tun_denied, "tap", DOCTOR_WARNING, "Permission denied", "access" },
        { "no folder", no_folder, "reflink", DOCTOR_WARNING, "overlays", "folder" },
        { "no reflinks", no_reflink, "reflink", DOCTOR_WARNING, "copied", "XFS" },
        { "an uneven TSC", bad_tsc, "clock", DOCTOR_WARNING, "TSC", "constant_tsc" },
        { "a slow clock", hpet, "clock", DOCTOR_WARNING, "'hpet'", "dmesg" },
        { "the clock of KVM", kvm_clock, NULL, DOCTOR_OK, NULL, NULL },
        { "no machine", no_vm, "machine speed", DOCTOR_MISSING, NULL, NULL },
        { "no KVM", no_kvm, "kvm machine speed", DOCTOR_MISSING, NULL, NULL },
};

/* name is one of the words */
static bool is_among(const char *words, const char *name)
{
        const char *at = words ? strstr(words, name) : NULL;

        return at && (at == words || at[-1] == ' ') && strchr(" ", at[strlen(name)]);
}

static void judge(const struct row *r, const struct doctor_host *host)
{
        for (size_t i = 0; i < DOCTOR_CHECKS; i++) {
                const struct doctor_check *check = &doctor_checks[i];
                bool meant = is_among(r->check, check->name);
                struct doctor_finding f;
                char row[96];

                memset(&f, 0x55, sizeof(f));
                check->judge(host, &f);
                snprintf(row, sizeof(row), "%s: %s", r->row, check->name);
                EXPECT_EQUAL(row, f.verdict, meant ? r->want : DOCTOR_OK);
                EXPECT_TRUE(row, f.text[0] != '\0');
                EXPECT_EQUAL(row, f.remedy[0] != '\0', f.verdict != DOCTOR_OK);
                /* nothing was cut off */
                EXPECT_TRUE(row, strlen(f.text) < sizeof(f.text) - 1);
                if (meant && r->text) {
                        EXPECT_TRUE(row, strstr(f.text, r->text) != NULL);
                        EXPECT_TRUE(row, strstr(f.remedy, r->remedy) != NULL);
                }
        }
}

static void one_thing_changes_one_finding(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct doctor_host host = good;

                rows[i].change(&host);
                judge(&rows[i], &host);
        }
}

static void a_good_host_is_well(void)
{
        judge(&(struct row){ .row = "good" }, &good);
}

/* Whatever was found, e.g. nothing at all. */
static void an_unknown_host_is_judged(void)
{
        const struct doctor_host none = { 0 };

        for (size_t i = 0; i < DOCTOR_CHECKS; i++) {
                struct doctor_finding f;

                doctor_checks[i].judge(&none, &f);
                EXPECT_TRUE(doctor_checks[i].name, f.verdict < DOCTOR_VERDICTS);
                EXPECT_TRUE(doctor_checks[i].name, doctor_verdict_name(f.verdict)[0]);
        }
}

int main(void)
{
        static const CU_TestInfo cases[] = {
                { "a good host is well", a_good_host_is_well },
                { "one thing changes one finding", one_thing_changes_one_finding },
                { "an unknown host is judged", an_unknown_host_is_judged },
                CU_TEST_INFO_NULL,
        };

        return suite_main("doctor", cases);
}
