/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: bad geometry is refused with a reason; addresses and pieces agree with a
 *       page-by-page model.
 * Method: a table of single faults; every page of a layout whose order in the client
 *       differs from guest-physical order. */
#include "pageserver/regions.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "tests/unit/suite.h"

#define P 4096ull
#define DISK (100 * P)

/* gpa pages 0-9, 16-39, 40-99; in the client: 40-99 first, then 0-9, then 16-39 */
static struct psmsg_attach layout(void)
{
        return (struct psmsg_attach){
                .nuffds = 2, .nregions = 3,
                .region = {
                        { .hva = 0x200000, .bytes = 10 * P, .gpa = 0, .uffd = 0 },
                        { .hva = 0x300000, .bytes = 24 * P, .gpa = 16 * P, .uffd = 1 },
                        { .hva = 0x100000, .bytes = 60 * P, .gpa = 40 * P, .uffd = 0 },
                },
        };
}

static void bad_geometry_is_refused(void)
{
        static const struct {
                unsigned i;
                struct psmsg_region region;
                const char *why;
        } wrong[] = {
                { 0, { 0x200001, 10 * P, 0, 0 }, "aligned" },
                { 0, { 0x200000, 10 * P + 1, 0, 0 }, "aligned" },
                { 1, { 0x300000, 24 * P, 16 * P + 8, 1 }, "aligned" },
                { 1, { 0x300000, 0, 16 * P, 1 }, "empty" },
                { 0, { 1ull << 47, 10 * P, 0, 0 }, "user memory" },
                { 0, { (1ull << 47) - P, 10 * P, 0, 0 }, "user memory" },
                { 0, { 0x200000, -P, 0, 0 }, "user memory" },
                { 1, { 0x300000, 24 * P, 9 * P, 1 }, "overlaps" },
                { 1, { 0x300000, 25 * P, 16 * P, 1 }, "overlaps" },
                { 2, { 0x100000, 61 * P, 40 * P, 0 }, "behind the image" },
                { 2, { 0x100000, P, -P, 0 }, "behind the image" },
                { 0, { 0x100000 + 59 * P, 10 * P, 0, 0 }, "overlap at address" },
        };
        struct regions *r;
        struct err e;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct psmsg_attach a = layout();

                a.region[wrong[i].i] = wrong[i].region;
                CU_ASSERT_EQUAL(regions_new(&a, DISK, P, &r, &e), -EINVAL);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, wrong[i].why));
        }

        struct psmsg_attach a = layout();

        CU_ASSERT_EQUAL(regions_new(&a, DISK - P - 1, P, &r, &e), -EINVAL);
        CU_ASSERT_EQUAL(regions_new(&a, DISK - 1, P, &r, &e), 0);  /* rounded up to a page */
        CU_ASSERT_EQUAL(regions_bytes(r), 94 * P);
        regions_free(r);
}

static bool model(const struct psmsg_attach *a, uint64_t gpa, uint64_t *hva, uint32_t *uffd)
{
        for (unsigned i = 0; i < a->nregions; i++) {
                const struct psmsg_region *g = &a->region[i];

                if (gpa >= g->gpa && gpa < g->gpa + g->bytes) {
                        *hva = g->hva + gpa - g->gpa;
                        *uffd = g->uffd;
                        return true;
                }
        }
        return false;
}

static void addresses_are_found(void)
{
        struct psmsg_attach a = layout();
        struct regions *r;
        uint64_t hva, gpa;
        uint32_t uffd;
        unsigned found = 0;

        CU_ASSERT_EQUAL_FATAL(regions_new(&a, DISK, P, &r, NULL), 0);
        for (uint64_t page = 0; page < 110; page++) {
                if (!model(&a, page * P, &hva, &uffd))
                        continue;
                CU_ASSERT(regions_gpa(r, hva + 17, &gpa));
                CU_ASSERT_EQUAL(gpa, page * P + 17);
                found++;
        }
        CU_ASSERT_EQUAL(found, 94);
        CU_ASSERT(!regions_gpa(r, 0, &gpa));
        CU_ASSERT(!regions_gpa(r, 0xfffff, &gpa));
        CU_ASSERT(!regions_gpa(r, 0x100000 + 60 * P, &gpa));
        CU_ASSERT(!regions_gpa(r, 0x300000 + 24 * P, &gpa));
        CU_ASSERT(!regions_gpa(r, UINT64_MAX, &gpa));
        regions_free(r);
}

/* every range: the pieces are what the model has, in order, and nothing else */
static void pieces_are_the_overlap(void)
{
        struct psmsg_attach a = layout();
        struct regions *r;

        CU_ASSERT_EQUAL_FATAL(regions_new(&a, DISK, P, &r, NULL), 0);
        for (uint64_t from = 0; from < 102; from++) {
                for (uint64_t end = from; end < 104; end++) {
                        uint64_t hva, page = from;
                        uint32_t uffd;
                        struct piece p;
                        bool same = true;

                        for (uint64_t at = from * P; regions_piece(r, at, end * P, &p);
                             at = p.gpa + p.bytes) {
                                for (; page < p.gpa / P; page++)
                                        same &= !model(&a, page * P, &hva, &uffd);
                                for (; page < (p.gpa + p.bytes) / P; page++)
                                        same &= model(&a, page * P, &hva, &uffd) &&
                                                hva == p.hva + page * P - p.gpa &&
                                                uffd == p.uffd;
                        }
                        for (; page < end; page++)
                                same &= !model(&a, page * P, &hva, &uffd);
                        CU_ASSERT(same && page == MAX(from, end));
                }
        }
        regions_free(r);
}

static const CU_TestInfo cases[] = {
        { "bad geometry is refused with a reason", bad_geometry_is_refused },
        { "addresses are found", addresses_are_found },
        { "pieces are the overlap", pieces_are_the_overlap },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("regions", cases);
}
