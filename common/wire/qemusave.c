/* SPDX-License-Identifier: Apache-2.0 */
/* The head, records and commands; the others are in qemusave-ram.c. */
#include "common/wire/qemusave.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemusave-priv.h"

/* ---- records -------------------------------------------------------------- */

static const struct {
        const char *name;               /* the end of a section's name */
        const char *text;
} refused_sections[] = {
        { "dirty-bitmap", "bitmaps of disks come with it: switch the capability dirty-bitmaps "
          "off (migrate_set_capability dirty-bitmaps off) and save again" },
        { "block", "disks come with it: switch the capability block off (migrate_set_capability "
          "block off) and save again" },
        { "vfio", "the machine has a VFIO device: unplug it and save again" },
};

/* id, name, instance, version: all that stands at the beginning of START and FULL */
struct section {
        uint32_t id, instance, version;
        char name[QEMU_NAME_MAX + 1];
        size_t bytes;
};

static int take_section(const struct qemusave_in *in, struct section *ret, struct err *e)
{
        if (in->left < 6 || in->left < 6u + in->at[5] + 8u)
                return QEMUSAVE_STEP_MORE;

        size_t n = in->at[5];

        if (!qemu_name_take(in->at + 6, n, ret->name))
                return err_msg(e, EBADMSG, "a section has no proper name");
        ret->id = get_be32(in->at + 1);
        ret->instance = get_be32(in->at + 6 + n);
        ret->version = get_be32(in->at + 10 + n);
        ret->bytes = 14 + n;
        return QEMUSAVE_STEP_ON;
}

static int refuse_section(const char *name, struct err *e)
{
        size_t n = strlen(name);

        for (size_t i = 0; i < ARRAY_SIZE(refused_sections); i++) {
                size_t end = strlen(refused_sections[i].name);

                if (n >= end && !strcmp(name + n - end, refused_sections[i].name))
                        return err_msg(e, ENOTSUP, "%s", refused_sections[i].text);
        }
        return err_msg(e, ENOTSUP, "'%s' comes in sections of its own beside RAM, which cannot be "
                       "read: take it out of the machine and save again", name);
}

static int take_start(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                      struct err *e)
{
        struct section s;
        int rc = take_section(in, &s, e);

        (void)item;
        if (rc != QEMUSAVE_STEP_ON)
                return rc;
        if (strcmp(s.name, "ram"))
                return refuse_section(s.name, e);
        if (p->started)
                return err_msg(e, EBADMSG, "RAM begins twice");
        if (s.version != QEMU_RAM_VERSION)
                return err_msg(e, ENOTSUP, "RAM comes in version %u, not %u", s.version,
                               QEMU_RAM_VERSION);
        p->ram = (struct qemusave_ram){ s.id, s.instance, s.version, false };
        p->started = true;
        p->state = STATE_WORDS;
        qemusave_advance(in, s.bytes);
        return QEMUSAVE_STEP_ON;
}

static int take_part(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                     struct err *e)
{
        (void)item;
        if (in->left < 5)
                return QEMUSAVE_STEP_MORE;
        if (!p->started || get_be32(in->at + 1) != p->ram.id)
                return err_msg(e, EBADMSG, "section %u goes on but never began",
                               get_be32(in->at + 1));
        if (p->ended)
                return err_msg(e, EBADMSG, "RAM goes on behind its end");
        p->has_parts = true;
        p->ended = in->at[0] == QEMU_END;
        p->state = STATE_WORDS;
        qemusave_advance(in, 5);
        return QEMUSAVE_STEP_ON;
}

static int take_full(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                     struct err *e)
{
        struct section s;

        if (p->has_parts) {
                p->state = STATE_DEVICES;
                item->event = QEMUSAVE_DEVICES;
                return QEMUSAVE_STEP_ITEM;
        }

        int rc = take_section(in, &s, e);

        if (rc != QEMUSAVE_STEP_ON)
                return rc;
        return err_msg(e, ENOTSUP, "the device '%s' comes before RAM, where it cannot be read: "
                       "take it out of the machine and save again", s.name);
}

static int take_command(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                        struct err *e)
{
        (void)p;
        if (in->left < 5)
                return QEMUSAVE_STEP_MORE;

        uint16_t command = get_be16(in->at + 1);
        uint16_t bytes = get_be16(in->at + 3);

        if (command == QEMU_POSTCOPY_ADVISE && bytes == 16)
                return err_msg(e, ENOTSUP, "the capability postcopy-ram is for reverting: switch "
                               "it off (migrate_set_capability postcopy-ram off) and save again");
        if (bytes != (command == QEMU_PING ? 4 : 0) ||
            (command != QEMU_OPEN_RETURN_PATH && command != QEMU_PING &&
             command != QEMU_POSTCOPY_ADVISE && command != QEMU_SWITCHOVER_START))
                return err_msg(e, EBADMSG, "command %u with %u bytes has no place in a saved "
                               "stream", command, bytes);
        if (in->left < 5u + bytes)
                return QEMUSAVE_STEP_MORE;
        if (command == QEMU_PING)
                *item = (struct qemusave_item){ .event = QEMUSAVE_PING,
                                                .token = get_be32(in->at + 5) };
        if (command == QEMU_OPEN_RETURN_PATH)
                item->event = QEMUSAVE_RETURN_PATH;
        qemusave_advance(in, 5u + bytes);
        return item->event == QEMUSAVE_MORE ? QEMUSAVE_STEP_ON : QEMUSAVE_STEP_ITEM;
}

static int take_record(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                       struct err *e)
{
        if (in->left < 1)
                return QEMUSAVE_STEP_MORE;
        switch (in->at[0]) {
        case QEMU_START:
                return take_start(p, in, item, e);
        case QEMU_PART:
        case QEMU_END:
                return take_part(p, in, item, e);
        case QEMU_FULL:
                return take_full(p, in, item, e);
        case QEMU_COMMAND:
                return take_command(p, in, item, e);
        case QEMU_EOF:
                return err_msg(e, EBADMSG, "it ends without the state of any device");
        default:
                return err_msg(e, EBADMSG, "a record of type 0x%02x has no place here",
                               in->at[0]);
        }
}

/* ---- all of it ------------------------------------------------------------ */

static int take_head(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                     struct err *e)
{
        size_t bytes;
        struct err why = { 0 };
        int rc = qemuhead_parse(in->at, in->left, false, &p->head, &bytes, &why);

        if (rc == -EAGAIN)
                return QEMUSAVE_STEP_MORE;
        if (rc < 0)
                return err_msg(e, -rc, "%s", why.text);
        *item = (struct qemusave_item){ .event = QEMUSAVE_HEAD, .data = in->at, .bytes = bytes };
        p->state = STATE_RECORD;
        qemusave_advance(in, bytes);
        return QEMUSAVE_STEP_ITEM;
}

static int take_devices(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                        struct err *e)
{
        (void)p;
        (void)in;
        (void)e;
        item->event = QEMUSAVE_DEVICES;
        return QEMUSAVE_STEP_ITEM;
}

static int take_refused(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                        struct err *e)
{
        (void)p;
        (void)in;
        (void)item;
        return err_msg(e, EBADMSG, "it was refused before");
}

static const struct {
        qemusave_step *take;
        const char *cut;
} states[] = {
        [STATE_HEAD] = { take_head, "in its head" },
        [STATE_RECORD] = { take_record, "before the state of the devices" },
        [STATE_WORDS] = { qemusave_word, "in the middle of RAM" },
        [STATE_LIST] = { qemusave_listed, "in the list of RAM blocks" },
        [STATE_FOOTER] = { qemusave_footer, "in the middle of RAM" },
        [STATE_DEVICES] = { take_devices, "in the state of the devices" },
        [STATE_REFUSED] = { take_refused, "after it was refused" },
};

static_assert(ARRAY_SIZE(states) == STATES, "one step for each state");

int qemusave_next(struct qemusave *p, const uint8_t *data, size_t bytes, size_t *ret_used,
                  struct qemusave_item *ret, struct err *e)
{
        struct qemusave_in in = { .at = data, .left = bytes };
        struct qemusave_item item = { .event = QEMUSAVE_MORE };
        int rc = QEMUSAVE_STEP_ON;

        while (rc == QEMUSAVE_STEP_ON)
                rc = states[p->state].take(p, &in, &item, e);
        p->taken_bytes += bytes - in.left;
        if (rc < 0) {
                p->state = STATE_REFUSED;
                return err_in(e, rc, "the stream of QEMU, at byte %llu",
                              (unsigned long long)p->taken_bytes);
        }
        ASSERT(rc == QEMUSAVE_STEP_ITEM || in.left < QEMUSAVE_WINDOW_MIN);
        *ret_used = bytes - in.left;
        *ret = item;
        return 0;
}

int qemusave_cut(const struct qemusave *p, struct err *e)
{
        return err_msg(e, EBADMSG, "the stream of QEMU ends %s, at byte %llu or soon behind it",
                       states[p->state].cut, (unsigned long long)p->taken_bytes);
}

struct qemusave *qemusave_new(void)
{
        return calloc(1, sizeof(struct qemusave));
}

void qemusave_free(struct qemusave *p)
{
        free(p);
}

const struct qemuhead *qemusave_head(const struct qemusave *p)
{
        return &p->head;
}

const struct qemu_ramblock *qemusave_blocks(const struct qemusave *p, unsigned *ret_n)
{
        *ret_n = p->nblocks;
        return p->blocks;
}

struct qemusave_ram qemusave_ram(const struct qemusave *p)
{
        return p->ram;
}
