/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-dest.h - a QEMU that waits for a migration, as strict as a real one or stricter.
 *
 * What it insists on: each page of the host comes once after LISTEN, huge ones whole and in
 * order; zero pages only when they were asked for; every block discarded, wholly or but
 * for what was sent ahead; END only after the devices are loaded and every page that is
 * not zero is there; what a thread of the guest waited for has the right bytes.
 *
 * Threads: dest_load() and dest_recover() run in the caller's, with threads of their own
 *          for the devices and the guest. Whatever fails aborts the program.
 */
#ifndef TESTS_STRESS_QEMU_DEST_H
#define TESTS_STRESS_QEMU_DEST_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/stress/qemu-image.h"

struct dest_plan {
        unsigned vcpus;                 /* threads of the guest, at most DEST_VCPUS_MAX */
        unsigned touches;               /* pages that each touches, at random */
        unsigned device_touches;        /* pages that the devices' state touches */
        unsigned echoes;                /* how often each request is repeated */
        unsigned slow_us;               /* sleep after each 32 KiB read */
        unsigned die_after;             /* pages after RUN; 0 = never */
        bool plain;                     /* no postcopy: zero pages come unasked, twice is legal */
};

#define DEST_VCPUS_MAX 8u

enum dest_end {
        DEST_DONE,                      /* END, EOF, and SHUT was said          */
        DEST_DIED,                      /* as the plan says; the guest waits    */
        DEST_CUT,                       /* the stream ended before; likewise    */
};

struct dest;

struct dest *dest_new(const struct qemu_image *image);
void dest_free(struct dest *d);

/* Takes over both descriptors, which may be one. */
enum dest_end dest_load(struct dest *d, int in, int out, const struct dest_plan *plan);
enum dest_end dest_recover(struct dest *d, int in, int out, const struct dest_plan *plan);
/* Its memory is what the image holds, byte by byte. */
void dest_compare(const struct dest *d);

bool dest_ran(const struct dest *d);
/* counted since dest_new(), in pages of the host */
uint64_t dest_placed(const struct dest *d);
uint64_t dest_asked(const struct dest *d);
/* in the order of their coming: block and offset of the i-th page after LISTEN */
bool dest_order(const struct dest *d, uint64_t i, unsigned *ret_block, uint64_t *ret_offset);

#endif
