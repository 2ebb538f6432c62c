/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/requests.h"

#include "common/check.h"

int requests_init(struct requests *r, uint64_t pages)
{
        r->first = r->n = 0;
        return bits_init(&r->asked, pages);
}

void requests_fini(struct requests *r)
{
        bits_fini(&r->asked);
}

bool requests_new(struct requests *r, uint64_t page)
{
        return bits_set(&r->asked, page);
}

bool requests_full(const struct requests *r)
{
        return r->n == REQUESTS_MAX;
}

void requests_push(struct requests *r, uint64_t page)
{
        ASSERT(!requests_full(r));
        r->page[(r->first + r->n++) % REQUESTS_MAX] = page;
}

bool requests_pop(struct requests *r, uint64_t *ret_page)
{
        if (r->n == 0)
                return false;
        *ret_page = r->page[r->first];
        r->first = (r->first + 1) % REQUESTS_MAX;
        r->n--;
        return true;
}
