/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/qemuhead.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

/* QEMU knows some twenty capabilities, and lists two. */
#define CAPABILITIES_MAX 64u
#define UUID_BYTES 16u

static_assert(QEMU_PAGE_MIN == 1u << 12 && QEMU_PAGE_MAX == 1u << 16, "page bits are 12 to 16");

/* take*(): NULL or -EAGAIN when the bytes are not there yet. */
struct in {
        const uint8_t *at;
        size_t left;
};

static const uint8_t *take(struct in *in, size_t bytes)
{
        const uint8_t *p = in->at;

        if (bytes > in->left)
                return NULL;
        in->at += bytes;
        in->left -= bytes;
        return p;
}

static int take_u32(struct in *in, uint32_t *ret)
{
        const uint8_t *p = take(in, 4);

        if (!p)
                return -EAGAIN;
        *ret = get_be32(p);
        return 0;
}

static int take_name(struct in *in, size_t n, const char *what, char ret[QEMU_NAME_MAX + 1],
                     struct err *e)
{
        const uint8_t *p = take(in, n);

        if (!p)
                return -EAGAIN;
        if (!qemu_name_take(p, n, ret))
                return err_msg(e, EBADMSG, "%s is not a name", what);
        return 0;
}

static int take_text(struct in *in, const char *what, char ret[QEMU_NAME_MAX + 1],
                     struct err *e)
{
        const uint8_t *n = take(in, 1);

        return n ? take_name(in, *n, what, ret, e) : -EAGAIN;
}

/* ---- subsections of the configuration ------------------------------------- */

static int take_page_bits(struct in *in, struct qemuhead *h, struct err *e)
{
        uint32_t bits;
        int rc = take_u32(in, &bits);

        if (rc < 0)
                return rc;
        if (bits < 12 || bits > 16)
                return err_msg(e, ENOTSUP, "the guest's pages are of 2^%u bytes: only those of "
                               "%u to %u bytes can be saved", bits, QEMU_PAGE_MIN,
                               QEMU_PAGE_MAX);
        h->page_bytes = 1u << bits;
        return 0;
}

/* Listed are only those that change what a stream looks like. */
static int take_capabilities(struct in *in, struct qemuhead *h, struct err *e)
{
        char name[QEMU_NAME_MAX + 1];
        uint32_t n;
        int rc = take_u32(in, &n);

        (void)h;
        if (rc < 0)
                return rc;
        if (n > CAPABILITIES_MAX)
                return err_msg(e, EBADMSG, "it lists %u capabilities, more than there are", n);
        if (n == 0)
                return 0;
        rc = take_text(in, "the name of a capability", name, e);
        if (rc < 0)
                return rc;
        return err_msg(e, ENOTSUP, "the capability %s cannot be used with snapshots: switch it "
                       "off (migrate_set_capability %s off) and save again", name, name);
}

static int take_uuid(struct in *in, struct qemuhead *h, struct err *e)
{
        (void)h;
        (void)e;
        return take(in, UUID_BYTES) ? 0 : -EAGAIN;
}

static const struct subsection {
        const char *name;
        int (*take)(struct in *in, struct qemuhead *h, struct err *e);
} subsections[] = {
        { "configuration/target-page-bits", take_page_bits },
        { "configuration/capabilities", take_capabilities },
        { "configuration/uuid", take_uuid },
};

static int take_subsection(struct in *in, struct qemuhead *h, struct err *e)
{
        char name[QEMU_NAME_MAX + 1];
        uint32_t version = 0;
        int rc = take(in, 1) ? 0 : -EAGAIN;

        if (rc == 0)
                rc = take_text(in, "the name of a part of the configuration", name, e);
        if (rc == 0)
                rc = take_u32(in, &version);
        if (rc < 0)
                return rc;
        for (size_t i = 0; i < ARRAY_SIZE(subsections); i++)
                if (!strcmp(name, subsections[i].name) && version == 1)
                        return subsections[i].take(in, h, e);
        return err_msg(e, ENOTSUP, "its configuration has a part '%s' of version %u that this "
                       "program does not know: a newer one is needed", name, version);
}

/* ---- the head ------------------------------------------------------------- */

static int take_magic(struct in *in, struct err *e)
{
        const uint8_t *p = take(in, 8);

        if (!p)
                return -EAGAIN;
        if (get_be32(p) != QEMU_MAGIC)
                return err_msg(e, EBADMSG, "it is not a migration stream of QEMU");
        if (get_be32(p + 4) != QEMU_VERSION)
                return err_msg(e, ENOTSUP, "it is a migration stream of version %u, not %u",
                               get_be32(p + 4), QEMU_VERSION);
        return 0;
}

static int take_machine(struct in *in, struct qemuhead *h, struct err *e)
{
        uint32_t n;
        int rc = take(in, 1) ? take_u32(in, &n) : -EAGAIN;

        return rc < 0 ? rc : take_name(in, n, "its machine type", h->machine, e);
}

/* Nothing in a stream's upper level is of type SUBSECTION. */
static int take_configuration(struct in *in, bool whole, struct qemuhead *h, struct err *e)
{
        int rc = 0;

        if (in->left > 0 && *in->at != QEMU_CONFIGURATION)
                return 0;
        if (in->left > 0)
                rc = take_machine(in, h, e);
        while (rc == 0 && in->left > 0 && *in->at == QEMU_SUBSECTION)
                rc = take_subsection(in, h, e);
        return rc == 0 && in->left == 0 && !whole ? -EAGAIN : rc;
}

int qemuhead_parse(const uint8_t *data, size_t bytes, bool whole, struct qemuhead *ret,
                   size_t *ret_bytes, struct err *e)
{
        struct in in = { .at = data, .left = bytes };
        struct qemuhead h = { .page_bytes = QEMU_PAGE_MIN };
        int rc = take_magic(&in, e);

        if (rc == 0)
                rc = take_configuration(&in, whole, &h, e);
        if (rc == -EAGAIN && whole)
                return err_msg(e, EBADMSG, "the head of the stream is cut");
        if (rc == -EAGAIN && bytes >= QEMUHEAD_BYTES_MAX)
                return err_msg(e, EBADMSG, "the head of the stream is longer than %u bytes",
                               QEMUHEAD_BYTES_MAX);
        if (rc == -EAGAIN)
                return err_msg(e, EAGAIN, "the head of the stream is not complete");
        if (rc < 0)
                return rc;
        *ret = h;
        *ret_bytes = bytes - in.left;
        return 0;
}
