/* SPDX-License-Identifier: Apache-2.0 */
/* vcpus-guest.h - a hand-made guest of two vCPUs on real KVM, for tests of vcpus.h.
 *
 * Ring 0 is a few instructions; ring 3 runs one of the programs below, which
 * count in memory and do port I/O. What fails ends the test, as a fatal assertion.
 */
#ifndef TESTS_UNIT_VCPUS_GUEST_H
#define TESTS_UNIT_VCPUS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/vcpus.h"

#define CPUS 2
#define DATA_GPA(cpu) (0x10000 + (cpu) * 0x1000u)
#define STRING_GPA 0x20000
#define STRING_BYTES 1500       /* more than KVM takes in one exit */
#define PAGE_BYTES 4096

/* What a vCPU may do. It counts rounds at its DATA_GPA and wrong answers 8 bytes behind. */
extern const char guest_out[], guest_in[], guest_string[], guest_crash[];

struct guest {
        struct ram ram;
        struct kvm kvm;
        struct platform *platform;
        struct vcpus *vcpus;
        /* the console's vCPU; read while paused */
        uint8_t *console;
        size_t console_bytes;
        /* any vCPU */
        _Atomic unsigned ends;
        enum vcpus_end why;
};

/* Parked; vCPU 0 runs program0. */
void guest_new(struct guest *g, const char *program0, const char *program1);
void guest_free(struct guest *g);
uint64_t get64(const struct guest *g, uint64_t gpa);
/* What is at STRING_GPA. */
void fill_string(uint8_t *page);

/* clock_now_ns() then */
uint64_t in_ms(uint64_t ms);
/* Asks for up to 5 s. */
bool wait_for(bool (*done)(struct guest *g), struct guest *g);

#endif
