/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no bytes from a peer make the decoder or the judge of regions misbehave, and
 *       what is taken encodes to the same bytes again.
 * Method: libFuzzer with --enable-fuzzers; tests/fuzz/psmsg-replay.c replays a corpus
 *       and mutations of it in plain `make check`. */
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/wire/psfault.h"
#include "common/wire/psmsg.h"
#include "pageserver/regions.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void judge_regions(const struct psmsg_attach *a)
{
        struct regions *r;
        struct err e;
        struct piece p, same;
        uint64_t sum = 0;

        if (regions_new(a, 1ull << 40, PSMSG_PAGE_SMALL, &r, &e) < 0) {
                ASSERT(e.text[0]);
                return;
        }
        for (uint64_t at = 0; regions_piece(r, at, UINT64_MAX, &p); at = p.gpa + p.bytes) {
                uint64_t gpa;

                ASSERT(p.bytes > 0 && p.uffd < a->nuffds);
                ASSERT(regions_gpa(r, p.hva + p.bytes - 1, &gpa));
                ASSERT(gpa == p.gpa + p.bytes - 1);
                ASSERT(regions_piece_at(r, p.hva, p.hva + p.bytes, &same));
                ASSERT(same.gpa == p.gpa && same.bytes == p.bytes);
                sum += p.bytes;
        }
        ASSERT(sum == regions_bytes(r));
        regions_free(r);
}

/* of a lease */
static void judge_faults(const uint8_t *data, size_t size)
{
        uint64_t hva[PSFAULT_MAX];
        uint8_t again[PSFAULT_BYTES_MAX];
        int n = psfault_decode(data, size, hva);

        ASSERT(n < 0 || (psfault_encode(hva, (size_t)n, again) == size &&
                         !memcmp(data, again, size)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct psmsg m;
        static uint8_t again[PSMSG_BYTES_MAX];

        judge_faults(data, size);
        if (psmsg_decode(data, size, &m) < 0)
                return 0;
        ASSERT(psmsg_encode(&m, again) == size);
        ASSERT(!memcmp(data, again, size));
        ASSERT(psmsg_fds(&m) <= MAX(PSMSG_UFFDS_MAX, PSMSG_IMAGES_MAX + 4));
        if (m.type == PSMSG_ATTACH)
                judge_regions(&m.attach);
        return 0;
}
