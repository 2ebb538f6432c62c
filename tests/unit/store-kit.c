/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/store-draft.h"

#define TOUCH_MAX 64                    /* clusters */

const char kit_meta[] = "{\"version\": 1}";

void kit_folder(char folder[KIT_PATH_MAX])
{
        const char *tmp = getenv("TMPDIR");

        snprintf(folder, KIT_PATH_MAX, "%.80s/store-XXXXXX", tmp ? tmp : "/tmp");

        char *made = mkdtemp(folder);

        ASSERT(made);
}

const char *kit_path(const char *folder, const char *name, char path[KIT_PATH_MAX])
{
        int n = snprintf(path, KIT_PATH_MAX, "%s/%s", folder, name);

        ASSERT(n > 0 && n < KIT_PATH_MAX);
        return path;
}

int kit_gone(const char *folder)
{
        return rmdir(folder) == 0;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct kit_ram *ram = ctx;

        (void)ret;
        (void)e;
        if (!ram->copies)
                return ram->bytes + gpa;
        return memcpy(buf, ram->bytes + gpa, bytes);
}

struct qs_ram_source kit_source(struct kit_ram *ram)
{
        return (struct qs_ram_source){ .span = span, .ctx = ram };
}

int kit_save(const char *path, const struct qs_writer_options *o, struct kit_ram *ram,
             struct err *e)
{
        struct qs_writer *w = NULL;
        int rc = qs_writer_new(path, o, &w, e);

        if (rc == 0)
                rc = qs_writer_section(w, "META", kit_meta, strlen(kit_meta), e);
        if (rc == 0)
                rc = qs_writer_section(w, "EMPTY", NULL, 0, e);
        if (rc == 0)
                rc = draft_take(w, ram, e);
        if (rc == 0)
                rc = qs_writer_section(w, "DEVICES", ram->bytes, 9000, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        qs_writer_free(w);
        return rc;
}

uint8_t *kit_load(const char *path, size_t *ret_bytes)
{
        AUTO_FD fd = kit_open(path);
        char *data;
        int rc = io_read_all(fd, 1u << 30, &data, ret_bytes);

        ASSERT(rc == 0);
        return (uint8_t *)data;
}

int kit_file(const uint8_t *bytes, size_t n)
{
        int fd = memfd_create("image", MFD_CLOEXEC);

        ASSERT(fd >= 0);

        int rc = io_pwrite_full(fd, bytes, n, 0);

        ASSERT(rc == 0);
        return fd;
}

int kit_open(const char *path)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC);

        ASSERT(fd >= 0);
        return fd;
}

long kit_compare(struct qs_image *image, const uint8_t *model)
{
        const struct qs_image_info *info = qs_image_info(image);
        size_t cluster = (size_t)1 << info->cluster_bits;
        AUTO_FREE uint8_t *buf = malloc(cluster);
        struct qs_reader *r = NULL;
        long wrong = qs_reader_new(image, &r, NULL);

        for (uint64_t at = 0; wrong >= 0 && at < info->disk_bytes; at += cluster) {
                int rc = qs_cluster_read(r, at / cluster, buf, NULL);

                if (rc < 0)
                        wrong = rc;
                else
                        wrong += memcmp(buf, model + at, MIN(cluster, info->disk_bytes - at)) != 0;
        }
        qs_reader_free(r);
        return wrong;
}

long kit_check(int fd, int contents)
{
        struct qs_check_report report;
        int rc = qs_check(fd, "image", contents, NULL, NULL, NULL, NULL, &report, NULL);

        return rc < 0 ? rc : (long)(report.corruptions + report.leaks + report.changed);
}

void kit_patch(uint8_t *file, size_t size, const uint8_t *data, size_t n)
{
        while (n >= 5) {
                size_t at = get_le32(data) % size;
                size_t len = MIN(MIN(data[4], n - 5), size - at);

                memcpy(file + at, data + 5, len);
                data += 5 + len;
                n -= 5 + len;
        }
}

void kit_touch(struct qs_image *image)
{
        const struct qs_image_info *info = qs_image_info(image);
        AUTO_FREE uint8_t *buf = malloc((size_t)4 << info->cluster_bits);
        uint64_t n = DIV_ROUND_UP(info->disk_bytes, 1ull << info->cluster_bits);
        struct qs_reader *r;
        void *data;
        size_t bytes;

        ASSERT(buf);
        if (qs_reader_new(image, &r, NULL) < 0)
                return;
        for (uint64_t i = 0; i < MIN(n, TOUCH_MAX); i++) {
                uint64_t run;
                enum qs_kind kind;

                qs_cluster_kind(r, i, &kind, NULL);
                qs_zero_run(r, i, TOUCH_MAX, &run, NULL);
                qs_cluster_read(r, i, buf, NULL);
                if (qs_extent_at(r, i, MIN(4, n - i), &kind, &run, NULL) == 0)
                        qs_clusters_read(r, i, run, buf, NULL);
        }
        if (qs_section_read(r, "META", &data, &bytes, NULL) == 0)
                free(data);
        qs_reader_free(r);
}
