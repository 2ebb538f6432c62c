/* SPDX-License-Identifier: Apache-2.0 */
/* blk-kit.h - a block device without a bus, its driver, and a disk that can hang and fail.
 *
 * The program is linked with --wrap=disk_read, disk_write and disk_flush (tests/blk.inc), and
 * has virtio_signal() and virtio_device_broken() from here.
 * Threads: the test's main thread; one kit at a time.
 */
#ifndef TESTS_UNIT_BLK_KIT_H
#define TESTS_UNIT_BLK_KIT_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/unit/vqguest.h"
#include "vmm/virtio/blk.h"

#define KIT_QUEUE 128
#define KIT_SLOTS KIT_QUEUE
#define KIT_SLOT_BYTES 4096u
#define KIT_DISK_SECTORS 2048u
#define KIT_ALL_FEATURES ~0ull          /* that the device offers */

struct blk_kit {
        struct ram ram;
        struct vqguest guest;
        struct virtio_device *dev;
        int disk_fd;
        uint16_t head[KIT_SLOTS];       /* of the request that has this slot */
        uint32_t written[KIT_SLOTS];    /* of those that came back */
        bool done[KIT_SLOTS];
        unsigned ndone;
};

struct blk_kit_options {
        bool read_only;
        bool event_idx;
        uint64_t features;              /* negotiated */
};

/* The device is started and has got its first kick. */
void blk_kit_init(struct blk_kit *k, const struct blk_kit_options *o);
void blk_kit_fini(struct blk_kit *k);
/* Another device of the same disk, size and name, not started; the caller's. */
struct virtio_device *blk_kit_twin(struct blk_kit *k, uint64_t sectors);

/* A request's memory: slot s has a header, a status, a table and KIT_SLOT_BYTES of data. */
void *blk_kit_data(struct blk_kit *k, unsigned slot);
uint8_t *blk_kit_status(struct blk_kit *k, unsigned slot);
uint64_t blk_kit_data_gpa(unsigned slot);
/* Makes it available, with data of out or in bytes, in one piece, and does not kick. */
void blk_kit_submit(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
                    uint32_t out_bytes, uint32_t in_bytes);
/* The same with header, data and status in bufs; the header is filled in. */
void blk_kit_submit_bufs(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
                         const struct vqguest_buf *bufs, unsigned n);
struct vqguest_buf blk_kit_header(unsigned slot);
struct vqguest_buf blk_kit_answer(unsigned slot);
void blk_kit_kick(struct blk_kit *k);
/* Takes what came back. false: fewer than n have so far, and 10 s passed. */
bool blk_kit_wait(struct blk_kit *k, unsigned n);
/* All slots are free again. */
void blk_kit_forget(struct blk_kit *k);
/* submit, kick, wait; the status */
int blk_kit_do(struct blk_kit *k, unsigned slot, uint32_t type, uint64_t sector,
               uint32_t out_bytes, uint32_t in_bytes);

/* What the device said. */
unsigned blk_kit_signals(void);
/* NULL = it is not broken; waits up to 10 s for it with wait. */
const char *blk_kit_broken(bool wait);

/* Requests to the disk wait from here on, until they are let go on, n of them or all. */
void blk_kit_hang(void);
void blk_kit_release(unsigned n);
void blk_kit_release_all(void);
/* How many are with the disk, at least n, or after 10 s. */
unsigned blk_kit_wait_inside(unsigned n);
/* Its requests end with that; 0 = as they are. */
void blk_kit_fail(int rc);
unsigned blk_kit_flushes(void);

#endif
