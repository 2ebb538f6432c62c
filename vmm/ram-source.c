/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram-source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

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
};

static bool is_own(uint64_t entry)
{
        return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_FILE);
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
        *ret = s;
        return 0;
}

void ram_source_free(struct ram_source *s)
{
        if (!s)
                return;
        fd_close(&s->pagemap_fd);
        free(s);
}

/* Marks what is not the guest's own of the span's pages from `first` on. */
static int mark(struct ram_source *s, const uint8_t *hva, size_t first, size_t pages,
                struct qs_span *ret, bool *ret_any_own, struct err *e)
{
        uint64_t entries[MAP_PAGES];
        uint64_t at = ((uint64_t)(uintptr_t)hva / PAGE_BYTES + first) * sizeof(entries[0]);
        int rc = io_pread_full(s->pagemap_fd, entries, pages * sizeof(entries[0]), at);

        if (rc < 0)
                return err_set(e, -rc, "read /proc/self/pagemap");
        for (size_t i = 0; i < pages; i++) {
                if (is_own(entries[i]))
                        *ret_any_own = true;
                else
                        qs_span_mark_parent(ret, first + i);
        }
        return 0;
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        struct ram_source *s = ctx;
        const uint8_t *hva = ram_at(s->ram, gpa, bytes);
        size_t pages = bytes / PAGE_BYTES;
        bool any_own = false;

        (void)buf;
        ASSERT(hva && IS_ALIGNED(gpa | bytes, PAGE_BYTES) && pages <= QS_SPAN_PAGES_MAX);
        for (size_t at = 0; at < pages; at += MAP_PAGES) {
                if (mark(s, hva, at, MIN(pages - at, MAP_PAGES), ret, &any_own, e) < 0)
                        return NULL;
        }
        if (!any_own)
                ret->kind = QS_SPAN_PARENT;
        return hva;
}

struct qs_ram_source ram_source_ops(struct ram_source *s)
{
        return (struct qs_ram_source){ .span = span, .ctx = s, .parent = s->parent };
}
