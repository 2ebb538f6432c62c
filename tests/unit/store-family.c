/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-family.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "qcowstore/imghdr.h"
#include "tests/unit/store-ram.h"

#define EXT_AT 120                      /* our extension */
#define EXT_END 224
#define NAME_AT 256

struct kit_ram family_ram(uint32_t pages, uint64_t seed)
{
        struct kit_ram ram = { .bytes = calloc(1, FAMILY_RAM_BYTES), .ranges = 1,
                               .range = { { 0, FAMILY_RAM_BYTES } } };
        uint64_t state = seed;

        ASSERT(ram.bytes);
        for (unsigned i = 0; i < FAMILY_RAM_BYTES / 4096; i++) {
                if (pages >> i & 1)
                        store_ram_page(ram.bytes + i * 4096, 4096, i % 2, &state);
        }
        return ram;
}

void family_save(const char *path, struct kit_ram *ram, unsigned bits)
{
        struct qs_writer_options o = {
                .cluster_bits = bits, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 1,
                .disk_bytes = FAMILY_RAM_BYTES,
        };
        int rc = kit_save(path, &o, ram, NULL);

        ASSERT(rc == 0);
}

void family_name_parent(const char *path, const char *name, const char *format,
                        const struct kin *kin)
{
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        int rc = io_pread_full(fd, sector, sizeof(sector), 0);

        ASSERT(rc == 0);
        put_be64(sector + 8, NAME_AT);
        put_be32(sector + 16, (uint32_t)strlen(name));
        memcpy(sector + NAME_AT, name, strlen(name));
        memcpy(sector + EXT_AT + 24, kin->uuid, 16);
        put_le64(sector + EXT_AT + 88, kin->state);
        if (format) {
                put_be32(sector + EXT_END, 0xe2792aca);
                put_be32(sector + EXT_END + 4, (uint32_t)strlen(format));
                memcpy(sector + EXT_END + 8, format, strlen(format));
        }
        imghdr_seal(sector);
        rc = io_pwrite_full(fd, sector, sizeof(sector), 0);
        ASSERT(rc == 0);
}

struct kin family_kin(const char *path)
{
        AUTO_FD fd = kit_open(path);
        uint8_t sector[LAYOUT_SECTOR_BYTES];
        struct imghdr h;
        struct kin kin;
        int rc = io_pread_full(fd, sector, sizeof(sector), 0);

        ASSERT(rc == 0);
        rc = imghdr_parse(sector, sizeof(sector), &h, NULL);
        ASSERT(rc == 0);
        memcpy(kin.uuid, h.uuid, sizeof(kin.uuid));
        kin.state = h.snaptable_sum;
        return kin;
}

void family_begin(struct family *f, unsigned parent_bits, unsigned child_bits)
{
        f->parent_ram = family_ram(0x00fff0f3, 5);
        f->child_ram = family_ram(0x00249249, 6);
        kit_folder(f->folder);
        family_save(kit_path(f->folder, "parent", f->parent), &f->parent_ram, parent_bits);
        family_save(kit_path(f->folder, "child", f->child), &f->child_ram, child_bits);
        f->kin = family_kin(f->parent);
}

void family_end(struct family *f)
{
        unlink(f->parent);
        unlink(f->child);
        free(f->parent_ram.bytes);
        free(f->child_ram.bytes);

        int gone = kit_gone(f->folder);

        ASSERT(gone);
}

uint8_t *family_merged(const struct family *f, unsigned child_bits)
{
        uint8_t *model = malloc(FAMILY_RAM_BYTES);
        size_t cluster = (size_t)1 << child_bits;

        ASSERT(model);
        for (size_t at = 0; at < FAMILY_RAM_BYTES; at += cluster) {
                size_t n = MIN(cluster, FAMILY_RAM_BYTES - at);
                const uint8_t *own = f->child_ram.bytes + at;
                bool data = false;

                for (size_t i = 0; i < n; i++)
                        data |= own[i] != 0;
                memcpy(model + at, data ? own : f->parent_ram.bytes + at, n);
        }
        return model;
}
