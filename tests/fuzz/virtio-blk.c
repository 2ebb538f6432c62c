/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no request of a guest's makes the block device touch what is not the guest's RAM or the
 *   disk's, and what is answered keeps the promises of blk-serve.h.
 * Method: libFuzzer, or mutations of one good request (mutate.h). The input is a ring's
 *   descriptors, then what lies behind them in RAM: headers, ranges, tables. RAM is a block of
 *   the heap, the disk a file in memory. */
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "tests/fuzz/mutate.h"
#include "vmm/virtio/blk-serve.h"

#define RING 8u
#define DESCS_BYTES (RING * sizeof(struct vring_desc))
#define AVAIL_GPA 0x3f00u
#define USED_GPA 0x3f80u
#define RAM_BYTES 0x4000u
#define INPUT_BYTES_MAX AVAIL_GPA
#define DISK_BYTES (64u * DISK_SECTOR_BYTES)
#define FEATURES_ALL ~0ull

static struct disk *open_disk(void)
{
        AUTO_FD fd = memfd_create("disk", MFD_CLOEXEC);
        struct disk *d = NULL;
        char path[64];

        ASSERT(fd >= 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

        int rc = ftruncate(fd, DISK_BYTES);

        ASSERT(rc == 0);
        rc = disk_open(&(struct disk_options){ .path = path }, &d, NULL);
        ASSERT(rc == 0);
        return d;
}

static bool is_a_status(uint8_t s)
{
        return s == VIRTIO_BLK_S_OK || s == VIRTIO_BLK_S_IOERR || s == VIRTIO_BLK_S_UNSUPP;
}

static void serve(struct blk_target *t, const struct vq_chain *c)
{
        struct err e = { 0 };
        uint32_t written = UINT32_MAX;
        struct iovec last;
        int rc = blk_serve(t, c, &written, &e);

        if (rc < 0) {
                ASSERT(e.code == rc && e.text[0] && (c->out_bytes < 16 || c->in_bytes == 0));
                return;
        }
        ASSERT(written <= c->in_bytes);

        unsigned n = vq_in_pieces(c, c->in_bytes - 1, 1, &last, 1);

        ASSERT(n == 1 && is_a_status(*(uint8_t *)last.iov_base));
}

static void serve_all(struct disk *d, const struct ram *ram)
{
        struct virtqueue q = { .indirect = true, .s = {
                .size = RING, .ready = true, .avail_gpa = AVAIL_GPA, .used_gpa = USED_GPA,
        } };
        struct blk_target t = { .disk = d, .serial = "fuzz", .features = FEATURES_ALL };
        struct vq_chain c;
        struct err e = { 0 };
        int rc = vq_attach(&q, ram, RING, &e);

        ASSERT(rc == 0);
        while ((rc = vq_pop(&q, &c, &e)) > 0)
                serve(&t, &c);
        ASSERT(rc == 0 || e.code == rc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
        static struct disk *d;          /* opened once: opening costs more than all else */
        AUTO_FREE uint8_t *ram_bytes = calloc(1, RAM_BYTES);
        struct ram ram = { .bytes = RAM_BYTES, .nslots = 1,
                           .slots = { { .bytes = RAM_BYTES, .hva = ram_bytes } } };

        ASSERT(ram_bytes);
        if (!d)
                d = open_disk();
        memcpy(ram_bytes, data, MIN(bytes, INPUT_BYTES_MAX));
        put_le16(ram_bytes + AVAIL_GPA + 2, 2);         /* two requests: */
        put_le16(ram_bytes + AVAIL_GPA + 4, 0);         /* they begin at these descriptors */
        put_le16(ram_bytes + AVAIL_GPA + 6, 4);
        serve_all(d, &ram);
        return 0;
}

#ifndef FUZZ_WITH_LIBFUZZER

static void put_desc(uint8_t *ram, unsigned i, uint64_t gpa, uint32_t bytes, uint16_t flags)
{
        uint8_t *desc = ram + i * sizeof(struct vring_desc);

        put_le64(desc, gpa);
        put_le32(desc + 8, bytes);
        put_le16(desc + 12, flags);
        put_le16(desc + 14, (uint16_t)(i + 1));
}

/* a write of two sectors, then a discard of two ranges */
int main(int argc, char **argv)
{
        static uint8_t good[DESCS_BYTES + 256];

        put_desc(good, 0, DESCS_BYTES, 16, VRING_DESC_F_NEXT);
        put_desc(good, 1, 0x400, 1024, VRING_DESC_F_NEXT);
        put_desc(good, 2, 0x800, 1, VRING_DESC_F_WRITE);
        put_le32(good + DESCS_BYTES, VIRTIO_BLK_T_OUT);
        put_le64(good + DESCS_BYTES + 8, 62);

        put_desc(good, 4, DESCS_BYTES + 32, 48, VRING_DESC_F_NEXT);
        put_desc(good, 5, 0x801, 1, VRING_DESC_F_WRITE);
        put_le32(good + DESCS_BYTES + 32, VIRTIO_BLK_T_DISCARD);
        put_le64(good + DESCS_BYTES + 48, 1);
        put_le32(good + DESCS_BYTES + 56, 8);
        put_le64(good + DESCS_BYTES + 64, 60);
        put_le32(good + DESCS_BYTES + 72, 4);
        return mutate_main(argc, argv, good, sizeof(good));
}

#endif
