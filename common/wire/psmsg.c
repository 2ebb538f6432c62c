/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/psmsg.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define HEAD_BYTES 8u
#define REGION_BYTES 28u

static_assert(HEAD_BYTES + 8 + PSMSG_REGIONS_MAX * REGION_BYTES <= PSMSG_BYTES_MAX,
              "the longest message fits");
static_assert(sizeof(struct psmsg_stats) == 18 * 8, "stats are 18 plain integers");

enum { HAS_CACHE = 1, HAS_MAP = 2, RECORD = 4, REMOVES = 8, HAS_REMOVED = 16, HELLO_FLAGS = 31 };

/* ---- writing: the caller's buffer holds any message, so nothing can fail -- */

struct out {
        uint8_t *at;
};

static void put8(struct out *o, unsigned v)
{
        *o->at++ = (uint8_t)v;
}

static void put16(struct out *o, unsigned v)
{
        put_le16(o->at, (uint16_t)v);
        o->at += 2;
}

static void put32(struct out *o, uint32_t v)
{
        put_le32(o->at, v);
        o->at += 4;
}

static void put64(struct out *o, uint64_t v)
{
        put_le64(o->at, v);
        o->at += 8;
}

/* u16 length, bytes; no NUL */
static void put_text(struct out *o, const char *s, size_t max)
{
        size_t n = strnlen(s, max);

        put16(o, (unsigned)n);
        memcpy(o->at, s, n);
        o->at += n;
}

static void put_hello(struct out *o, const struct psmsg_hello *h)
{
        put32(o, PSMSG_MAGIC);
        put32(o, PSMSG_VERSION);
        put8(o, h->lane);
        put8(o, (h->has_cache ? HAS_CACHE : 0) | (h->has_map ? HAS_MAP : 0) |
                (h->record ? RECORD : 0) | (h->removes ? REMOVES : 0) |
                (h->has_removed ? HAS_REMOVED : 0));
        ASSERT(h->nimages >= 1 && h->nimages <= PSMSG_IMAGES_MAX);
        put8(o, h->hold_percent);
        put8(o, h->nimages);
        put32(o, h->page_bytes);
        put64(o, h->prefetch_rate);
        put_text(o, h->tag, PSMSG_TAG_MAX);
        put_text(o, h->path, PSMSG_PATH_MAX);
}

static void put_welcome(struct out *o, const struct psmsg_welcome *w)
{
        put8(o, w->lane);
        put8(o, w->has_map);
        put8(o, w->has_cache);
        put8(o, w->has_removed);
        put32(o, w->cluster_bytes);
        put64(o, w->disk_bytes);
}

static void put_attach(struct out *o, const struct psmsg_attach *a)
{
        ASSERT(a->nregions <= PSMSG_REGIONS_MAX);
        put8(o, a->reattach);
        put8(o, a->nuffds);
        put16(o, a->nregions);
        for (unsigned i = 0; i < a->nregions; i++) {
                put64(o, a->region[i].hva);
                put64(o, a->region[i].bytes);
                put64(o, a->region[i].gpa);
                put32(o, a->region[i].uffd);
        }
}

static void put_stats(struct out *o, const struct psmsg_stats *s)
{
        uint64_t v[sizeof(*s) / sizeof(uint64_t)];

        memcpy(v, s, sizeof(v));
        for (size_t i = 0; i < ARRAY_SIZE(v); i++)
                put64(o, v[i]);
}

static void put_body(struct out *o, const struct psmsg *m)
{
        switch (m->type) {
        case PSMSG_HELLO:
                put_hello(o, &m->hello);
                break;
        case PSMSG_WELCOME:
                put_welcome(o, &m->welcome);
                break;
        case PSMSG_ERROR:
                put32(o, (uint32_t)-m->error.code);
                put_text(o, m->error.text, PSMSG_TEXT_MAX);
                break;
        case PSMSG_ATTACH:
                put_attach(o, &m->attach);
                break;
        case PSMSG_BAD_PAGE:
                put64(o, m->bad_page.gpa);
                put_text(o, m->bad_page.text, PSMSG_TEXT_MAX);
                break;
        case PSMSG_STATS:
                put_stats(o, &m->stats);
                break;
        case PSMSG_PREFETCH:
                put64(o, m->rate);
                break;
        case PSMSG_LEASE:
        case PSMSG_LEASED:
                put64(o, m->lease);
                break;
        case PSMSG_ATTACHED:
        case PSMSG_RESIDENT:
        case PSMSG_ASK_STATS:
        case PSMSG_RETRY:
        case PSMSG_ASK_RECORD:
        case PSMSG_RECORD:
                break;
        }
}

size_t psmsg_encode(const struct psmsg *m, uint8_t buf[PSMSG_BYTES_MAX])
{
        struct out o = { .at = buf + HEAD_BYTES };

        put_body(&o, m);

        size_t bytes = (size_t)(o.at - buf);

        ASSERT(bytes <= PSMSG_BYTES_MAX);
        put_le16(buf, (uint16_t)m->type);
        put_le16(buf + 2, 0);
        put_le32(buf + 4, (uint32_t)bytes);
        return bytes;
}

/* ---- reading -------------------------------------------------------------
 * take*(): on short or wrong input they mark the reader as bad and return 0;
 * a bad reader stays bad, so one look at the end is enough. */

struct in {
        const uint8_t *at;
        size_t left;
        bool bad;
};

static const uint8_t *take(struct in *in, size_t bytes)
{
        if (in->bad || bytes > in->left) {
                in->bad = true;
                return NULL;
        }

        const uint8_t *p = in->at;

        in->at += bytes;
        in->left -= bytes;
        return p;
}

static uint64_t take_int(struct in *in, size_t bytes)
{
        const uint8_t *p = take(in, bytes);
        uint64_t v = 0;

        for (size_t i = 0; p && i < bytes; i++)
                v |= (uint64_t)p[i] << (8 * i);
        return v;
}

static uint64_t take_range(struct in *in, size_t bytes, uint64_t min, uint64_t max)
{
        uint64_t v = take_int(in, bytes);

        if (v < min || v > max) {
                in->bad = true;
                return min;
        }
        return v;
}

static bool take_bool(struct in *in)
{
        return take_range(in, 1, 0, 1) == 1;
}

/* ret has room for max + 1 bytes */
static void take_text(struct in *in, char *ret, size_t max)
{
        size_t n = (size_t)take_range(in, 2, 0, max);
        const uint8_t *p = take(in, n);

        ret[0] = '\0';
        if (!p)
                return;
        if (memchr(p, '\0', n)) {
                in->bad = true;
                return;
        }
        memcpy(ret, p, n);
        ret[n] = '\0';
}

static void take_hello_flags(struct in *in, struct psmsg_hello *h)
{
        unsigned flags = (unsigned)take_range(in, 1, 0, HELLO_FLAGS);

        h->has_cache = flags & HAS_CACHE;
        h->has_map = flags & HAS_MAP;
        h->record = flags & RECORD;
        h->removes = flags & REMOVES;
        h->has_removed = flags & HAS_REMOVED;
        if (h->has_removed && !h->removes)
                in->bad = true;
}

static uint32_t take_page_bytes(struct in *in)
{
        uint32_t bytes = (uint32_t)take_int(in, 4);

        if (bytes != PSMSG_PAGE_SMALL && bytes != PSMSG_PAGE_HUGE)
                in->bad = true;
        return bytes;
}

static int take_hello(struct in *in, struct psmsg_hello *h)
{
        take_range(in, 4, PSMSG_MAGIC, PSMSG_MAGIC);
        if (in->bad)
                return 0;
        if (take_int(in, 4) != PSMSG_VERSION && !in->bad)
                return -EPROTONOSUPPORT;
        h->lane = (enum psmsg_lane)take_range(in, 1, 0, PSMSG_LANE_COPY);
        take_hello_flags(in, h);
        h->hold_percent = (unsigned)take_range(in, 1, 0, 100);
        h->nimages = (unsigned)take_range(in, 1, 1, PSMSG_IMAGES_MAX);
        h->page_bytes = take_page_bytes(in);
        h->prefetch_rate = take_int(in, 8);
        take_text(in, h->tag, PSMSG_TAG_MAX);
        take_text(in, h->path, PSMSG_PATH_MAX);
        return 0;
}

static void take_welcome(struct in *in, struct psmsg_welcome *w)
{
        w->lane = (enum psmsg_lane)take_range(in, 1, PSMSG_LANE_SHARED, PSMSG_LANE_COPY);
        w->has_map = take_bool(in);
        w->has_cache = take_bool(in);
        w->has_removed = take_bool(in);
        w->cluster_bytes = (uint32_t)take_int(in, 4);
        w->disk_bytes = take_int(in, 8);
}

static void take_attach(struct in *in, struct psmsg_attach *a)
{
        a->reattach = take_bool(in);
        a->nuffds = (unsigned)take_range(in, 1, 1, PSMSG_UFFDS_MAX);
        a->nregions = (unsigned)take_range(in, 2, 1, PSMSG_REGIONS_MAX);
        for (unsigned i = 0; !in->bad && i < a->nregions; i++) {
                a->region[i].hva = take_int(in, 8);
                a->region[i].bytes = take_int(in, 8);
                a->region[i].gpa = take_int(in, 8);
                a->region[i].uffd = (uint32_t)take_range(in, 4, 0, a->nuffds - 1);
        }
}

static void take_stats(struct in *in, struct psmsg_stats *s)
{
        uint64_t v[sizeof(*s) / sizeof(uint64_t)];

        for (size_t i = 0; i < ARRAY_SIZE(v); i++)
                v[i] = take_int(in, 8);
        memcpy(s, v, sizeof(v));
}

static int take_body(struct in *in, struct psmsg *m)
{
        switch (m->type) {
        case PSMSG_HELLO:
                return take_hello(in, &m->hello);
        case PSMSG_WELCOME:
                take_welcome(in, &m->welcome);
                return 0;
        case PSMSG_ERROR:
                m->error.code = -(int)take_range(in, 4, 1, 4095);
                take_text(in, m->error.text, PSMSG_TEXT_MAX);
                return 0;
        case PSMSG_ATTACH:
                take_attach(in, &m->attach);
                return 0;
        case PSMSG_BAD_PAGE:
                m->bad_page.gpa = take_int(in, 8);
                take_text(in, m->bad_page.text, PSMSG_TEXT_MAX);
                return 0;
        case PSMSG_STATS:
                take_stats(in, &m->stats);
                return 0;
        case PSMSG_PREFETCH:
                m->rate = take_int(in, 8);
                return 0;
        case PSMSG_LEASE:
        case PSMSG_LEASED:
                m->lease = take_int(in, 8);
                return 0;
        case PSMSG_ATTACHED:
        case PSMSG_RESIDENT:
        case PSMSG_ASK_STATS:
        case PSMSG_RETRY:
        case PSMSG_ASK_RECORD:
        case PSMSG_RECORD:
                return 0;
        }
        return -EBADMSG;
}

int psmsg_decode(const void *buf, size_t bytes, struct psmsg *ret)
{
        struct in in = { .at = buf, .left = bytes };

        ret->type = (enum psmsg_type)take_range(&in, 2, PSMSG_HELLO, PSMSG_TYPE_LAST);
        take_range(&in, 2, 0, 0);
        take_range(&in, 4, bytes, bytes);
        if (in.bad)
                return -EBADMSG;

        int rc = take_body(&in, ret);

        if (rc < 0)
                return rc;
        return in.bad || in.left > 0 ? -EBADMSG : 0;
}

size_t psmsg_fds(const struct psmsg *m)
{
        switch (m->type) {
        case PSMSG_HELLO:
                return m->hello.nimages + (m->hello.has_cache ? 2u : 0u) +
                       (m->hello.has_map ? 1u : 0u) + (m->hello.has_removed ? 1u : 0u);
        case PSMSG_WELCOME:
                return (m->welcome.has_map ? 1u : 0u) + (m->welcome.has_cache ? 2u : 0u) +
                       (m->welcome.has_removed ? 1u : 0u);
        case PSMSG_RECORD:
        case PSMSG_LEASE:
                return 1;
        case PSMSG_ATTACH:
                return m->attach.nuffds;
        default:
                return 0;
        }
}

struct psmsg_hello_at psmsg_hello_at(const struct psmsg_hello *h)
{
        int next = (int)h->nimages;
        struct psmsg_hello_at at = { -1, -1, -1, -1 };

        if (h->has_cache) {
                at.cache = next++;
                at.filled = next++;
        }
        if (h->has_map)
                at.map = next++;
        if (h->has_removed)
                at.removed = next;
        return at;
}
