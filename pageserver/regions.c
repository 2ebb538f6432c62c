/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/regions.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

#define USER_HVA_END (1ull << 47)

struct regions {
        size_t n;
        struct psmsg_region by_gpa[PSMSG_REGIONS_MAX];
        struct psmsg_region by_hva[PSMSG_REGIONS_MAX];
};

static int compare_hva(const void *a, const void *b)
{
        const struct psmsg_region *x = a;
        const struct psmsg_region *y = b;

        return x->hva < y->hva ? -1 : x->hva > y->hva;
}

/* behind: where the region before this one ended */
static const char *fault_of(const struct psmsg_region *g, uint64_t behind_gpa, uint64_t end_gpa,
                            uint32_t page_bytes)
{
        if (!IS_ALIGNED(g->hva | g->bytes | g->gpa, page_bytes))
                return "is not page aligned";
        if (g->bytes == 0)
                return "is empty";
        if (g->hva >= USER_HVA_END || g->bytes > USER_HVA_END - g->hva)
                return "is no user memory";
        if (g->gpa < behind_gpa)
                return "is out of order or overlaps the one before";
        if (g->gpa > end_gpa || g->bytes > end_gpa - g->gpa)
                return "ends behind the image";
        return NULL;
}

static int check(const struct psmsg_attach *a, uint64_t disk_bytes, uint32_t page_bytes,
                 struct err *e)
{
        uint64_t behind = 0;
        uint64_t end = ALIGN_UP(disk_bytes, page_bytes);

        for (unsigned i = 0; i < a->nregions; i++) {
                const struct psmsg_region *g = &a->region[i];
                const char *why = fault_of(g, behind, end, page_bytes);

                if (why)
                        return err_msg(e, EINVAL, "region %u (%#llx bytes at guest-physical %#llx) "
                                       "%s", i, (unsigned long long)g->bytes,
                                       (unsigned long long)g->gpa, why);
                behind = g->gpa + g->bytes;
        }
        return 0;
}

static int sort_by_hva(struct regions *r, struct err *e)
{
        qsort(r->by_hva, r->n, sizeof(r->by_hva[0]), compare_hva);
        for (size_t i = 1; i < r->n; i++) {
                const struct psmsg_region *a = &r->by_hva[i - 1];

                if (a->hva + a->bytes > r->by_hva[i].hva)
                        return err_msg(e, EINVAL, "regions overlap at address %#llx",
                                       (unsigned long long)r->by_hva[i].hva);
        }
        return 0;
}

int regions_new(const struct psmsg_attach *a, uint64_t disk_bytes, uint32_t page_bytes,
                struct regions **ret, struct err *e)
{
        int rc = check(a, disk_bytes, page_bytes, e);

        if (rc < 0)
                return rc;

        struct regions *r = calloc(1, sizeof(*r));

        if (!r)
                return err_set(e, ENOMEM, "region table");
        r->n = a->nregions;
        memcpy(r->by_gpa, a->region, r->n * sizeof(r->by_gpa[0]));
        memcpy(r->by_hva, a->region, r->n * sizeof(r->by_hva[0]));
        rc = sort_by_hva(r, e);
        if (rc < 0) {
                regions_free(r);
                return rc;
        }
        *ret = r;
        return 0;
}

void regions_free(struct regions *r)
{
        free(r);
}

size_t regions_count(const struct regions *r)
{
        return r->n;
}

const struct psmsg_region *regions_at(const struct regions *r, size_t i)
{
        ASSERT(i < r->n);
        return &r->by_gpa[i];
}

uint64_t regions_bytes(const struct regions *r)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < r->n; i++)
                sum += r->by_gpa[i].bytes;
        return sum;
}

/* the first region that ends behind hva */
static size_t first_behind_hva(const struct regions *r, uint64_t hva)
{
        size_t low = 0;
        size_t high = r->n;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (r->by_hva[mid].hva + r->by_hva[mid].bytes <= hva)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

bool regions_gpa(const struct regions *r, uint64_t hva, uint64_t *ret_gpa)
{
        size_t i = first_behind_hva(r, hva);

        if (i == r->n || hva < r->by_hva[i].hva)
                return false;
        *ret_gpa = r->by_hva[i].gpa + (hva - r->by_hva[i].hva);
        return true;
}

bool regions_piece_at(const struct regions *r, uint64_t from_hva, uint64_t end_hva,
                      struct piece *ret)
{
        size_t i = first_behind_hva(r, from_hva);

        if (from_hva >= end_hva || i == r->n || r->by_hva[i].hva >= end_hva)
                return false;

        const struct psmsg_region *g = &r->by_hva[i];
        uint64_t from = MAX(from_hva, g->hva);
        uint64_t end = MIN(end_hva, g->hva + g->bytes);

        *ret = (struct piece){
                .gpa = g->gpa + (from - g->hva),
                .hva = from,
                .bytes = end - from,
                .uffd = g->uffd,
        };
        return true;
}

/* the first region that ends behind gpa */
static size_t first_behind(const struct regions *r, uint64_t gpa)
{
        size_t low = 0;
        size_t high = r->n;

        while (low < high) {
                size_t mid = (low + high) / 2;

                if (r->by_gpa[mid].gpa + r->by_gpa[mid].bytes <= gpa)
                        low = mid + 1;
                else
                        high = mid;
        }
        return low;
}

bool regions_piece(const struct regions *r, uint64_t from_gpa, uint64_t end_gpa,
                   struct piece *ret)
{
        size_t i = first_behind(r, from_gpa);

        if (from_gpa >= end_gpa || i == r->n || r->by_gpa[i].gpa >= end_gpa)
                return false;

        const struct psmsg_region *g = &r->by_gpa[i];
        uint64_t from = MAX(from_gpa, g->gpa);
        uint64_t end = MIN(end_gpa, g->gpa + g->bytes);

        *ret = (struct piece){
                .gpa = from,
                .hva = g->hva + (from - g->gpa),
                .bytes = end - from,
                .uffd = g->uffd,
        };
        return true;
}
