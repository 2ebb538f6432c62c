/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a second, independent reader sees the same RAM in our uncompressed
 *       images, and that of the latest tag where several are.
 * Method: libqcow against the flat model, cluster sizes 4 to 64 KiB; a tag is
 *       added, its content in part the first one's, and deleted. */
#include <libqcow.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define RAM_BYTES (6u << 20)

static int same(const char *path, const uint8_t *model)
{
        libqcow_file_t *file = NULL;
        libqcow_error_t *error = NULL;
        uint8_t *buf = calloc(1, RAM_BYTES);
        size64_t size = 0;
        int ok = libqcow_file_initialize(&file, &error) == 1 &&
                 libqcow_file_open(file, path, LIBQCOW_OPEN_READ, &error) == 1 &&
                 libqcow_file_get_media_size(file, &size, &error) == 1 && size == RAM_BYTES;

        for (size_t at = 0; ok && at < RAM_BYTES; at += 65536)
                ok = libqcow_file_read_buffer_at_offset(file, buf + at, 65536, (off64_t)at,
                                                        &error) == 65536;
        if (!ok && error)
                libqcow_error_fprint(error, stderr);
        ok = ok && memcmp(buf, model, RAM_BYTES) == 0;
        libqcow_error_free(&error);
        libqcow_file_free(&file, NULL);
        free(buf);
        return ok;
}

static int save(const char *path, const char *tag, unsigned bits, struct kit_ram *ram)
{
        struct qs_writer_options o = {
                .cluster_bits = bits, .disk_bytes = RAM_BYTES, .append = true,
        };
        struct err e = { 0 };

        snprintf(o.tag, sizeof(o.tag), "%s", tag);
        if (kit_save(path, &o, ram, &e) < 0)
                err_print("store-libqcow", &e);
        return same(path, ram->bytes);
}

int main(void)
{
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };
        struct kit_ram next = ram;
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        int bad = 0;

        store_ram_fill(ram.bytes, RAM_BYTES, 12);
        next.bytes = calloc(1, RAM_BYTES);
        store_ram_fill(next.bytes, RAM_BYTES, 13);
        memcpy(next.bytes, ram.bytes + RAM_BYTES / 4, RAM_BYTES / 2);
        kit_folder(folder);
        kit_path(folder, "image", path);
        for (unsigned bits = 12; bits <= 16; bits++) {
                int ok = save(path, "one", bits, &ram) && save(path, "two", bits, &next) &&
                         qs_snapshot_delete(path, "two", NULL) == 0 && same(path, ram.bytes);

                printf("%s: cluster_bits %u\n", ok ? "ok" : "FAIL", bits);
                bad += !ok;
                unlink(path);
        }
        free(next.bytes);
        free(ram.bytes);
        return bad || !kit_gone(folder);
}
