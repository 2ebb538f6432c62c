/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/memroom.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

/* more than memory.stat of any kernel */
#define TEXT_BYTES_MAX (64u << 10)

/* How the two versions of control groups tell the same. */
static const struct hierarchy {
        const char *controllers;        /* in /proc/self/cgroup */
        const char *folder;
        const char *limit;
        const char *usage;
        const char *reclaimable;        /* the line of memory.stat */
} hierarchies[] = {
        { "", "", "memory.max", "memory.current", "\ninactive_file " },
        { "memory", "/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
          "\ntotal_inactive_file " },
};

static char *read_text(const char *path)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
        char *text;
        size_t bytes;

        return fd >= 0 && io_read_all(fd, TEXT_BYTES_MAX, &text, &bytes) == 0 ? text : NULL;
}

/* what follows key in text; 0: it is not there */
static uint64_t number_behind(const char *text, const char *key)
{
        const char *at = strstr(text, key);

        return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

static char *read_file(const char *folder, const char *name)
{
        char path[PATH_MAX];

        return snprintf(path, sizeof(path), "%s/%s", folder, name) < (int)sizeof(path)
               ? read_text(path) : NULL;
}

static uint64_t room_of_group(const struct hierarchy *h, const char *folder)
{
        AUTO_FREE char *limit = read_file(folder, h->limit);
        AUTO_FREE char *usage = read_file(folder, h->usage);
        AUTO_FREE char *stat = read_file(folder, "memory.stat");

        if (!limit || !usage || !strncmp(limit, "max", 3))
                return UINT64_MAX;

        uint64_t most = strtoull(limit, NULL, 10);
        uint64_t used = strtoull(usage, NULL, 10);
        uint64_t back = stat ? number_behind(stat, h->reclaimable) : 0;

        used -= MIN(used, back);
        return most - MIN(most, used);
}

/* A group and all around it. */
static uint64_t room_of_path(const struct hierarchy *h, const char *root, const char *path)
{
        char folder[PATH_MAX];
        int n = snprintf(folder, sizeof(folder), "%s%s", root, h->folder);
        uint64_t room = UINT64_MAX;

        if (n >= (int)sizeof(folder) ||
            snprintf(folder + n, sizeof(folder) - (size_t)n, "%s", path) >=
                    (int)sizeof(folder) - n)
                return UINT64_MAX;
        for (;;) {
                uint64_t here = room_of_group(h, folder);
                char *last = strrchr(folder + n, '/');

                room = MIN(room, here);
                if (!last)
                        return room;
                *last = '\0';
        }
}

uint64_t memroom_groups(const char *text, const char *root)
{
        AUTO_FREE char *copy = strdup(text);
        uint64_t room = UINT64_MAX;
        char *rest = NULL;

        for (char *line = copy ? strtok_r(copy, "\n", &rest) : NULL; line;
             line = strtok_r(NULL, "\n", &rest)) {
                char *controllers = strchr(line, ':');
                char *path = controllers ? strchr(controllers + 1, ':') : NULL;

                if (!path)
                        continue;
                *path++ = '\0';
                for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
                        const struct hierarchy *h = &hierarchies[i];

                        if (!strcmp(controllers + 1, h->controllers)) {
                                uint64_t here = room_of_path(h, root, path);

                                room = MIN(room, here);
                        }
                }
        }
        return room;
}

uint64_t memroom_host(const char *text)
{
        const char *available = strstr(text, "\nMemAvailable:");

        if (!available)
                return UINT64_MAX;
        return (number_behind(available, "MemAvailable:") +
                number_behind(text, "\nSwapFree:")) << 10;
}

uint64_t memroom_bytes(void)
{
        AUTO_FREE char *host = read_text("/proc/meminfo");
        AUTO_FREE char *groups = read_text("/proc/self/cgroup");
        uint64_t of_host = host ? memroom_host(host) : UINT64_MAX;
        uint64_t of_groups = groups ? memroom_groups(groups, "/sys/fs/cgroup") : UINT64_MAX;

        return MIN(of_host, of_groups);
}
