/* SPDX-License-Identifier: Apache-2.0 */
/* Makes machines to see how long it takes, and lets the last one count down in ring 0.
 *
 * The guest is one page, in flat protected mode: it counts, writes to a port, and begins
 * again; each KVM_RUN is one such lap. So much is counted that leaving the guest (1 to 40
 * us) does not matter, and so little that it takes less than a second where each instruction
 * is interpreted.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"
#include "vmm/doctor-probe.h"
#include "vmm/kvm.h"

#define TRIES 3
#define LAPS 3
#define COUNT 100000u
#define LAP_INSTRUCTIONS (2 * COUNT)    /* dec and jnz */
#define CODE_GPA 0x1000u
#define COUNT_AT 1                      /* in the code */
/* For all laps. One takes 0.2 s at a million instructions a second. */
#define LAPS_SECONDS 20

static const uint8_t code[] = {
        0xb9, 0, 0, 0, 0,       /* mov ecx, COUNT */
        0x49,                   /* dec ecx        */
        0x75, 0xfd,             /* jnz to the dec */
        0xe6, 0xf4,             /* out 0xf4, al   */
        0xeb, 0xf4,             /* jmp to the mov */
};

static int set_flat(struct kvm *kvm, struct err *e)
{
        struct kvm_segment data = {
                .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1,
                .g = 1,
        };
        struct kvm_segment text = data;
        struct kvm_regs regs = { .rip = CODE_GPA, .rflags = 2 };
        struct kvm_sregs sregs;
        int rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_GET_SREGS, &sregs);

        text.selector = 8;
        text.type = 11;
        if (rc == 0) {
                sregs.cr0 |= 1;                 /* PE */
                sregs.cs = text;
                sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
                rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_SET_SREGS, &sregs);
        }
        if (rc == 0)
                rc = kvm_call(kvm, kvm->vcpu_fd[0], KVM_SET_REGS, &regs);
        return rc < 0 ? err_set(e, -rc, "KVM: set registers") : 0;
}

static int run_lap(const struct kvm *kvm, uint64_t *ret_ns, struct err *e)
{
        uint64_t start_ns = clock_now_ns();

        if (ioctl(kvm->vcpu_fd[0], KVM_RUN, NULL) < 0 && errno == EINTR)
                return err_msg(e, ETIMEDOUT, "a guest that counts to %u did not end within %d "
                               "seconds: this KVM cannot be used", COUNT, LAPS_SECONDS);
        else if (kvm->run[0]->exit_reason != KVM_EXIT_IO)
                return err_msg(e, EIO, "a guest that counts to %u ended with reason %u of KVM: "
                               "see the kernel's log", COUNT, kvm->run[0]->exit_reason);
        *ret_ns = clock_now_ns() - start_ns;
        return 0;
}

/* the fastest: the others were interrupted */
static int run_laps(const struct kvm *kvm, uint64_t *ret_ns, struct err *e)
{
        uint64_t best_ns = UINT64_MAX;

        for (int i = 0; i < LAPS; i++) {
                uint64_t ns = 0;
                int rc = run_lap(kvm, &ns, e);

                if (rc < 0)
                        return rc;
                best_ns = MIN(best_ns, ns);
        }
        *ret_ns = MAX(best_ns, 1u);
        return 0;
}

static void on_alarm(int sig)
{
        (void)sig;                      /* only ends KVM_RUN */
}

static int measure_ring0(struct kvm *kvm, const struct ram *ram, uint64_t *ret_per_s,
                         struct err *e)
{
        const struct sigaction interrupt = { .sa_handler = on_alarm };
        struct sigaction before;
        uint8_t *at = ram_at(ram, CODE_GPA, sizeof(code));
        uint64_t ns = 0;

        ASSERT(at);
        memcpy(at, code, sizeof(code));
        put_le32(at + COUNT_AT, COUNT);

        int rc = set_flat(kvm, e);

        if (rc < 0)
                return rc;
        sigaction(SIGALRM, &interrupt, &before);
        alarm(LAPS_SECONDS);
        rc = run_laps(kvm, &ns, e);
        alarm(0);
        sigaction(SIGALRM, &before, NULL);
        if (rc == 0)
                *ret_per_s = LAP_INSTRUCTIONS * NS_PER_SEC / ns;
        return rc;
}

static int by_size(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a;
        uint64_t y = *(const uint64_t *)b;

        return (x > y) - (x < y);
}

static int try_open(struct doctor_host *host)
{
        struct kvm kvm = { 0 };
        int rc = kvm_open(&kvm, &host->kvm);

        kvm_close(&kvm);
        if (rc < 0)
                host->vm = host->kvm;
        return rc;
}

/* One machine; ret_per_s may be NULL. */
static int try_machine(const struct ram *ram, uint64_t *ret_us, uint64_t *ret_per_s,
                       struct err *e)
{
        struct kvm kvm = { 0 };
        uint64_t start_ns = clock_now_ns();
        int rc = kvm_open(&kvm, e);

        if (rc == 0)
                rc = kvm_create(&kvm, ram, 1, e);
        *ret_us = (clock_now_ns() - start_ns) / NS_PER_US;
        if (rc == 0 && ret_per_s)
                rc = measure_ring0(&kvm, ram, ret_per_s, e);
        kvm_close(&kvm);
        return rc;
}

static int try_machines(struct doctor_host *host, struct ram *ram, struct err *e)
{
        uint64_t us[TRIES];
        int rc = ram_init(ram, RAM_BYTES_MIN, e);

        if (rc == 0)
                rc = ram_map_anonymous(ram, false, RAM_SMALL, e);
        for (int i = 0; i < TRIES && rc == 0; i++)
                rc = try_machine(ram, &us[i], i + 1 < TRIES ? NULL : &host->ring0_per_s, e);
        if (rc < 0)
                return rc;
        qsort(us, TRIES, sizeof(us[0]), by_size);
        host->create_us = us[TRIES / 2];
        return 0;
}

void doctor_try_kvm(struct doctor_host *host)
{
        struct ram ram = { 0 };

        if (try_open(host) == 0)
                (void)try_machines(host, &ram, &host->vm);
        ram_unmap(&ram);
}
