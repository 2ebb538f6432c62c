/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram-source.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

#define PAGE_BYTES 4096u
#define PAGEMAP_FILE (1ull << 61)
#define PAGEMAP_SWAPPED (1ull << 62)
#define PAGEMAP_PRESENT (1ull << 63)
/* pagemap is read in pieces of this many pages: 1 MiB of RAM, 2 KiB of map */
#define MAP_PAGES 256u

struct ram_source {
        const struct ram *ram;
        struct qs_image *parent;
        int pagemap_fd;
        pthread_key_t reader_key;       /* each writing thread's own qs_reader */
};

/* What stands in a span, page by page. */
struct presence {
        bool any_own;
        bool any_parent;
        uint64_t entries[MAP_PAGES];
};

static bool is_own(uint64_t entry)
{
        return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_FILE);
}

static void drop_reader(void *reader)
{
        qs_reader_free(reader);
}

int ram_source_new(const struct ram *ram, struct qs_image *parent, struct ram_source **ret,
                   struct err *e)
{
        struct ram_source *s = calloc(1, sizeof(*s));

        if (!s)
                return err_msg(e, ENOMEM, "no memory to read guest RAM");
        s->ram = ram;
        s->parent = parent;
        s->pagemap_fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
        if (s->pagemap_fd < 0) {
                int rc = err_set(e, errno, "open /proc/self/pagemap (the kernel needs "
                                 "CONFIG_PROC_PAGE_MONITOR)");

                free(s);
                return rc;
        }
        if (pthread_key_create(&s->reader_key, drop_reader)) {
                fd_close(&s->pagemap_fd);
                free(s);
                return err_msg(e, EAGAIN, "no thread-specific key is left");
        }
        *ret = s;
        return 0;
}

/* The writer's threads have ended, and their readers with them. */
void ram_source_free(struct ram_source *s)
{
        if (!s)
                return;
        qs_reader_free(pthread_getspecific(s->reader_key));
        pthread_setspecific(s->reader_key, NULL);
        pthread_key_delete(s->reader_key);
        fd_close(&s->pagemap_fd);
        free(s);
}

static int own_reader(struct ram_source *s, struct qs_reader **ret, struct err *e)
{
        struct qs_reader *reader = pthread_getspecific(s->reader_key);

        if (!reader) {
                int rc = qs_reader_new(s->parent, &reader, e);

                if (rc < 0)
                        return rc;
                pthread_setspecific(s->reader_key, reader);
        }
        *ret = reader;
        return 0;
}

static int look(struct ram_source *s, const uint8_t *hva, size_t pages, struct presence *ret,
                struct err *e)
{
        uint64_t at = (uint64_t)(uintptr_t)hva / PAGE_BYTES * sizeof(uint64_t);
        int rc = io_pread_full(s->pagemap_fd, ret->entries, pages * sizeof(uint64_t), at);

        if (rc < 0)
                return err_set(e, -rc, "read /proc/self/pagemap");
        ret->any_own = ret->any_parent = false;
        for (size_t i = 0; i < pages; i++) {
                if (is_own(ret->entries[i]))
                        ret->any_own = true;
                else
                        ret->any_parent = true;
        }
        return 0;
}

/* Whole clusters of the parent into buf, cut to the span. */
static int read_parent(struct ram_source *s, uint64_t gpa, size_t bytes, uint8_t *buf,
                       bool *ret_zero, struct err *e)
{
        const struct qs_image_info *info = qs_image_info(s->parent);
        uint64_t cluster_bytes = 1ull << info->cluster_bits;
        uint64_t first = gpa >> info->cluster_bits;
        uint64_t count = DIV_ROUND_UP(gpa + bytes, cluster_bytes) - first;
        AUTO_FREE uint8_t *cluster = NULL;
        struct qs_reader *reader;
        uint64_t zeros;
        int rc = own_reader(s, &reader, e);

        if (rc == 0)
                rc = qs_zero_run(reader, first, count, &zeros, e);
        if (rc < 0)
                return rc;
        *ret_zero = zeros == count;
        if (*ret_zero)
                return 0;
        cluster = malloc(cluster_bytes);
        if (!cluster)
                return err_msg(e, ENOMEM, "no memory to read a cluster");
        for (uint64_t i = 0; i < count; i++) {
                uint64_t start = (first + i) * cluster_bytes;
                uint64_t from = MAX(start, gpa);
                uint64_t to = MIN(start + cluster_bytes, gpa + bytes);

                rc = qs_cluster_read(reader, first + i, cluster, e);
                if (rc < 0)
                        return rc;
                memcpy(buf + (from - gpa), cluster + (from - start), to - from);
        }
        return 0;
}

/* At most MAP_PAGES pages, all parent's, all own, or a mix put together in buf. */
static int piece(struct ram_source *s, uint64_t gpa, const uint8_t *hva, size_t bytes,
                 uint8_t *buf, bool *ret_zero, bool *ret_own, struct err *e)
{
        struct presence here;
        int rc = look(s, hva, bytes / PAGE_BYTES, &here, e);

        *ret_zero = false;
        *ret_own = rc == 0 && !here.any_parent;
        if (rc < 0 || *ret_own)
                return rc;
        if (!s->parent)
                *ret_zero = true;
        else
                rc = read_parent(s, gpa, bytes, buf, ret_zero, e);
        if (rc < 0 || !here.any_own)
                return rc;
        if (*ret_zero)
                memset(buf, 0, bytes);
        *ret_zero = false;
        for (size_t i = 0; i < bytes / PAGE_BYTES; i++) {
                if (is_own(here.entries[i]))
                        memcpy(buf + i * PAGE_BYTES, hva + i * PAGE_BYTES, PAGE_BYTES);
        }
        return 0;
}

/* Clusters above 1 MiB come in several pieces: all are put together in buf. */
static const void *pieces(struct ram_source *s, uint64_t gpa, const uint8_t *hva, size_t bytes,
                          uint8_t *buf, bool *ret_zero, struct err *e)
{
        *ret_zero = true;
        for (size_t at = 0; at < bytes; at += MAP_PAGES * PAGE_BYTES) {
                size_t n = MIN(bytes - at, MAP_PAGES * PAGE_BYTES);
                bool zero, own;

                if (piece(s, gpa + at, hva + at, n, buf + at, &zero, &own, e) < 0)
                        return NULL;
                if (own)
                        memcpy(buf + at, hva + at, n);
                else if (zero)
                        memset(buf + at, 0, n);
                *ret_zero = *ret_zero && zero;
        }
        return buf;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, bool *ret_zero,
                        struct err *e)
{
        struct ram_source *s = ctx;
        const uint8_t *hva = ram_at(s->ram, gpa, bytes);
        bool own;

        ASSERT(hva && IS_ALIGNED(gpa, PAGE_BYTES) && IS_ALIGNED(bytes, PAGE_BYTES));
        if (bytes > MAP_PAGES * PAGE_BYTES)
                return pieces(s, gpa, hva, bytes, buf, ret_zero, e);
        if (piece(s, gpa, hva, bytes, buf, ret_zero, &own, e) < 0)
                return NULL;
        return own ? (const void *)hva : buf;
}

struct qs_ram_source ram_source_ops(struct ram_source *s)
{
        return (struct qs_ram_source){ .span = span, .ctx = s };
}
