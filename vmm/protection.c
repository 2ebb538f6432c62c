/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/protection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "pageserver/uffd.h"
#include "vmm/pager.h"
#include "vmm/stripes.h"

/* a server that does not let go of its descriptors by then does not at all */
#define LEASE_WAIT_NS (5 * NS_PER_SEC)

struct protection {
        struct pager *leased;           /* whose descriptors these are; NULL = own ones */
        const struct ps_region *regions;
        size_t nregions;
        const int *fds;
        size_t nfds;
        /* without a page server */
        struct ps_region own_region[RAM_SLOTS_MAX];
        int own_fd;
};

static int begin_own(struct protection *p, const struct ram *ram, struct err *e)
{
        bool file = ram->hugetlb || ram->of_file;
        int rc = uffd_open(file ? UFFD_PROTECT_FILE : UFFD_PROTECT_ANONYMOUS, &p->own_fd, e);

        if (rc == -ENOTSUP)
                return err_msg(e, ENOTSUP, "this kernel cannot watch writes into %s: Linux %s is "
                               "needed", file ? "huge pages, nor into a clone's memory" : "memory",
                               file ? "5.19" : "5.7");
        if (rc < 0)
                return rc;
        p->regions = p->own_region;
        p->fds = &p->own_fd;
        p->nfds = 1;
        for (unsigned i = 0; i < ram->nslots; i++) {
                const struct ram_slot *slot = &ram->slots[i];

                rc = uffd_register_protect(p->own_fd, (uintptr_t)slot->hva, slot->bytes, false, e);
                if (rc < 0)
                        return rc;
                p->own_region[p->nregions++] = (struct ps_region){
                        .hva = (uintptr_t)slot->hva, .bytes = slot->bytes, .gpa = slot->gpa,
                };
        }
        return 0;
}

static int begin_leased(struct protection *p, const struct protection_options *o, struct err *e)
{
        const struct stripes *s = pager_stripes(o->pager);

        if (!s->can_protect)
                return err_msg(e, ENOTSUP, "this kernel cannot watch writes into memory that a "
                               "page server fills: Linux 5.19 is needed");
        for (size_t i = 0; i < s->nregions; i++) {
                const struct ps_region *r = &s->regions[i];
                int rc = uffd_register_protect(s->uffds[r->uffd], r->hva, r->bytes, true, e);

                if (rc < 0)
                        return rc;
        }

        const struct pager_patience patience = {
                .deadline_ns = clock_now_ns() + LEASE_WAIT_NS, .cancelled = o->cancelled,
                .ctx = o->ctx,
        };
        int rc = pager_lease(o->pager, &patience, e);

        if (rc < 0)
                return rc;
        p->leased = o->pager;
        p->regions = s->regions;
        p->nregions = s->nregions;
        p->fds = s->uffds;
        p->nfds = s->nuffds;
        return 0;
}

int protection_begin(const struct protection_options *o, struct protection **ret, struct err *e)
{
        struct protection *p = calloc(1, sizeof(*p));

        if (!p)
                return err_msg(e, ENOMEM, "no memory to watch guest RAM");
        p->own_fd = -1;

        int rc = o->pager ? begin_leased(p, o, e) : begin_own(p, o->ram, e);

        if (rc < 0)
                protection_end(p);
        else
                *ret = p;
        return rc;
}

void protection_end(struct protection *p)
{
        if (!p)
                return;
        if (p->leased)
                pager_lease_end(p->leased);
        fd_close(&p->own_fd);           /* its last one: the kernel unregisters and wakes */
        free(p);
}

const struct ps_region *protection_regions(const struct protection *p, size_t *ret_n)
{
        *ret_n = p->nregions;
        return p->regions;
}

const int *protection_fds(const struct protection *p, size_t *ret_n)
{
        *ret_n = p->nfds;
        return p->fds;
}

/* of the page at gpa; NULL: it is not RAM */
static const struct ps_region *region_of(const struct protection *p, uint64_t gpa)
{
        size_t low = 0;
        size_t high = p->nregions;

        while (low < high) {
                size_t mid = low + (high - low) / 2;
                const struct ps_region *r = &p->regions[mid];

                if (gpa < r->gpa)
                        high = mid;
                else if (gpa - r->gpa >= r->bytes)
                        low = mid + 1;
                else
                        return r;
        }
        return NULL;
}

int protection_set(struct protection *p, uint64_t gpa, uint64_t bytes, bool on, struct err *e)
{
        const struct ps_region *r = region_of(p, gpa);

        ASSERT(r && gpa + bytes <= r->gpa + r->bytes);
        if (uffd_protect(p->fds[r->uffd], r->hva + (gpa - r->gpa), bytes, on) != UFFD_DONE)
                return err_set(e, errno, "%s guest memory at %#llx from writes",
                               on ? "protect" : "free", (unsigned long long)gpa);
        return 0;
}

/* Slots may be mapped in any order, so addresses need not ascend. */
bool protection_gpa(const struct protection *p, uint64_t hva, uint64_t *ret_gpa)
{
        for (size_t i = 0; i < p->nregions; i++) {
                const struct ps_region *r = &p->regions[i];

                if (hva >= r->hva && hva - r->hva < r->bytes) {
                        *ret_gpa = r->gpa + (hva - r->hva);
                        return true;
                }
        }
        return false;
}
