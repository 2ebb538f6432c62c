/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-twin.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "qcowstore/snaptable.h"
#include "qcowstore/sum.h"
#include "tests/unit/store-ram.h"

void twin_write(const struct twin *p, const void *data, size_t bytes, uint64_t at)
{
        AUTO_FD fd = open(p->path, O_WRONLY | O_CLOEXEC);
        int rc = io_pwrite_full(fd, data, bytes, at);

        ASSERT(rc == 0);
}

/* The snapshot twice, under two names; counts are for qemu-img to set right. */
static void double_snapshot(struct twin *p)
{
        size_t n;
        AUTO_FREE uint8_t *file = kit_load(p->path, &n);
        uint8_t table[2 * LAYOUT_SNAPSHOT_BYTES_MAX];
        struct imghdr h;
        struct snapshot s;
        size_t bytes;
        int rc = imghdr_parse(file, n, &h, NULL);

        ASSERT(rc == 0);
        rc = snaptable_parse(file + h.snaptable_offset, n - h.snaptable_offset, h.cluster_bits,
                             &s, &bytes, NULL);
        ASSERT(rc == 0);
        strcpy(s.tag, "one");
        bytes = snaptable_encode(&s, table);
        strcpy(s.id, "2");
        strcpy(s.tag, "two");
        bytes += snaptable_encode(&s, table + bytes);
        h.snapshots = 2;
        h.snaptable_sum = sum_bytes(table, bytes, h.hash_seed);
        for (unsigned i = 0; i < 2; i++) {
                h.default_snapshot = i;
                memset(h.uuid, (int)i, sizeof(h.uuid));         /* a torn one is neither */
                h.parent_state = i;
                imghdr_encode(&h, p->sector[i]);
        }
        twin_write(p, table, bytes, h.snaptable_offset);
        twin_write(p, p->sector[0], LAYOUT_SECTOR_BYTES, 0);
}

void twin_make(struct twin *p)
{
        struct qs_writer_options o = { .cluster_bits = 12, .threads = 1,
                                       .disk_bytes = TWIN_RAM_BYTES };
        struct kit_ram ram = { .bytes = calloc(1, TWIN_RAM_BYTES), .ranges = 1,
                               .range = { { 0, TWIN_RAM_BYTES } } };

        store_ram_fill(ram.bytes, TWIN_RAM_BYTES, 5);
        kit_folder(p->folder);

        int rc = kit_save(kit_path(p->folder, "image", p->path), &o, &ram, NULL);

        ASSERT(rc == 0);
        free(ram.bytes);
        double_snapshot(p);
}

bool twin_remove(const struct twin *p)
{
        unlink(p->path);
        return kit_gone(p->folder);
}

int twin_open_rw(const struct twin *p)
{
        int fd = open(p->path, O_RDWR | O_CLOEXEC);

        ASSERT(fd >= 0);
        return fd;
}

struct qs_image *twin_open_tag(const struct twin *p, const char *tag, struct err *e)
{
        AUTO_FD fd = kit_open(p->path);
        struct qs_image *image = NULL;

        return qs_image_open(fd, p->path, tag, &image, e) < 0 ? NULL : image;
}

bool twin_taken(const struct twin *p, off_t byte)
{
        AUTO_FD fd = kit_open(p->path);
        struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
        int rc = fcntl(fd, F_OFD_GETLK, &l);

        ASSERT(rc == 0);
        return l.l_type != F_UNLCK;
}
