/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/disk-kit.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

#define HOLE_BYTES (3u * 65536)

uint64_t disk_kit_random(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

void disk_kit_fill(uint8_t *p, size_t bytes, uint64_t *state)
{
        for (size_t i = 0; i + 8 <= bytes; i += 8) {
                uint64_t r = disk_kit_random(state);

                memcpy(p + i, &r, sizeof(r));
        }
}

void disk_kit_init(struct disk_kit *k, size_t bytes)
{
        const char *where = getenv("DISK_DIR");
        uint64_t state = 88172645463325252ull;
        AUTO_FD fd = -1;
        int rc;

        *k = (struct disk_kit){ .bytes = bytes, .model = calloc(1, bytes) };
        ASSERT(k->model);
        snprintf(k->dir, sizeof(k->dir), "%s/disk-XXXXXX", where ? where : ".");
        ASSERT(mkdtemp(k->dir) != NULL);
        snprintf(k->base, sizeof(k->base), "%s/base", k->dir);
        fd = open(k->base, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        ASSERT(fd >= 0);
        rc = ftruncate(fd, (off_t)bytes);
        ASSERT(rc == 0);
        for (size_t at = 0; at < bytes; at += HOLE_BYTES) {
                size_t part = MIN(HOLE_BYTES, bytes - at);

                if (at / HOLE_BYTES % 3 == 1)
                        continue;
                disk_kit_fill(k->model + at, part, &state);
                rc = io_pwrite_full(fd, k->model + at, part, at);
                ASSERT(rc == 0);
        }
}

static unsigned each_file(const struct disk_kit *k, bool remove)
{
        DIR *d = opendir(k->dir);
        struct dirent *f;
        unsigned n = 0;

        while (d && (f = readdir(d))) {
                if (!strcmp(f->d_name, ".") || !strcmp(f->d_name, ".."))
                        continue;
                n++;
                if (remove)
                        unlinkat(dirfd(d), f->d_name, 0);
        }
        if (d)
                closedir(d);
        return n;
}

unsigned disk_kit_files(const struct disk_kit *k)
{
        return each_file(k, false);
}

void disk_kit_fini(struct disk_kit *k)
{
        each_file(k, true);
        rmdir(k->dir);
        free(k->model);
}

char *disk_kit_path(const struct disk_kit *k, const char *name)
{
        char *path;
        int n = asprintf(&path, "%s/%s", k->dir, name);

        ASSERT(n > 0);
        return path;
}

bool disk_kit_holds(const char *path, const uint8_t *want, size_t bytes)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        AUTO_FREE uint8_t *buf = malloc(bytes);
        struct stat st;

        ASSERT(buf);
        return fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == bytes &&
               io_pread_full(fd, buf, bytes, 0) == 0 && !memcmp(buf, want, bytes);
}
