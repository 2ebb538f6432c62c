/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/stripes.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/uffd.h"

#define STRIPE_BYTES_MIN (2ull << 20)   /* no UFFDIO call crosses a stripe */
#define STRIPES 64
/* of huge pages too: a message names the small one that was touched */
#define WAKE_BYTES 4096u

/* A userfaultfd's features are fixed when it is opened, and a range has only one: those of
 * a live save are asked for now. Older kernels do without. */
static int open_uffds(struct stripes *s, enum stripes_of what, struct err *e)
{
        static const struct {
                uint64_t missing;
                uint64_t protect;
        } features[] = {
                [STRIPES_ANONYMOUS] = { 0, UFFD_PROTECT_ANONYMOUS },
                [STRIPES_HUGETLB] = { UFFD_FEATURE_MISSING_HUGETLBFS, UFFD_PROTECT_FILE },
                [STRIPES_CACHE] = { UFFD_FEATURE_MISSING_SHMEM, UFFD_PROTECT_FILE },
        };
        uint64_t both = features[what].missing | features[what].protect;
        long cpus = sysconf(_SC_NPROCESSORS_ONLN);
        size_t n = (size_t)MIN(MAX(cpus, 2), STRIPES_UFFDS_MAX);

        s->can_protect = true;
        while (s->nuffds < n) {
                uint64_t ask = s->can_protect ? both : features[what].missing;
                int rc = uffd_open(ask, &s->uffds[s->nuffds], e);

                if (rc == -ENOTSUP && s->can_protect && s->nuffds == 0) {
                        s->can_protect = false;
                        continue;
                }
                if (rc < 0)
                        return rc;
                s->nuffds++;
        }
        return 0;
}

static int register_all(struct stripes *s, const struct ram *ram, struct err *e)
{
        uint64_t stripe = MAX(STRIPE_BYTES_MIN, ALIGN_UP(ram->bytes / STRIPES, STRIPE_BYTES_MIN));

        for (unsigned i = 0; i < ram->nslots; i++) {
                const struct ram_slot *slot = &ram->slots[i];

                for (uint64_t at = 0; at < slot->bytes; at += stripe) {
                        struct ps_region r = {
                                .hva = (uint64_t)(uintptr_t)slot->hva + at,
                                .bytes = MIN(stripe, slot->bytes - at),
                                .gpa = slot->gpa + at,
                                .uffd = (uint32_t)(s->nregions % s->nuffds),
                        };
                        int rc = uffd_register_missing(s->uffds[r.uffd], r.hva, r.bytes, e);

                        if (rc < 0)
                                return rc;
                        ASSERT(s->nregions < PS_REGIONS_MAX);
                        s->regions[s->nregions++] = r;
                }
        }
        return 0;
}

int stripes_register(struct stripes *s, const struct ram *ram, enum stripes_of what,
                     struct err *e)
{
        int rc = open_uffds(s, what, e);

        return rc < 0 ? rc : register_all(s, ram, e);
}

bool stripes_put(const struct stripes *s, uint64_t gpa, const void *page, size_t bytes)
{
        for (size_t i = 0; i < s->nregions; i++) {
                const struct ps_region *r = &s->regions[i];

                if (gpa >= r->gpa && gpa - r->gpa < r->bytes)
                        return uffd_copy_absent(s->uffds[r->uffd], r->hva + (gpa - r->gpa), page,
                                                bytes);
        }
        return false;
}

void stripes_wake(const struct stripes *s)
{
        for (size_t i = 0; i < s->nregions; i++) {
                const struct ps_region *r = &s->regions[i];

                (void)uffd_wake(s->uffds[r->uffd], r->hva, r->bytes);
        }
}

void stripes_wake_page(const struct stripes *s, uint64_t hva)
{
        uint64_t page = ALIGN_DOWN(hva, (uint64_t)WAKE_BYTES);

        for (size_t i = 0; i < s->nregions; i++) {
                const struct ps_region *r = &s->regions[i];

                if (page >= r->hva && page - r->hva < r->bytes)
                        (void)uffd_wake(s->uffds[r->uffd], page, WAKE_BYTES);
        }
}

void stripes_fini(struct stripes *s)
{
        for (size_t i = 0; i < s->nuffds; i++)
                fd_close(&s->uffds[i]);
        s->nuffds = 0;
}
