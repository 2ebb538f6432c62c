/* SPDX-License-Identifier: Apache-2.0 */
/* The words of ram's bodies, the list of blocks in the first, and the footers. */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/qemusave-priv.h"

/* ---- words ---------------------------------------------------------------- */

static const struct {
        unsigned flag;
        int code;
        const char *text;
} refused_words[] = {
        { QEMU_RAM_XBZRLE, ENOTSUP, "pages come as differences: switch the capability xbzrle off "
          "(migrate_set_capability xbzrle off) and save again" },
        { QEMU_RAM_COMPRESS, ENOTSUP, "pages come compressed by QEMU: switch the capability "
          "compress off (migrate_set_capability compress off) and save again" },
        { QEMU_RAM_HOOK, ENOTSUP, "pages come by RDMA: save with exec:, unix: or tcp:" },
        { QEMU_RAM_FULL, EBADMSG, "it ends with a word that no QEMU since 2009 has sent" },
};

static int refuse_word(uint64_t flags, struct err *e)
{
        for (size_t i = 0; i < ARRAY_SIZE(refused_words); i++)
                if (flags & refused_words[i].flag)
                        return err_msg(e, refused_words[i].code, "%s", refused_words[i].text);
        return err_msg(e, EBADMSG, "a word of RAM has flags 0x%llx, which are not known",
                       (unsigned long long)flags);
}

/* The block that a page's word names, or says it is as before. */
static int take_block(const struct qemusave *p, struct qemusave_in *in, uint64_t flags,
                      unsigned *ret, struct err *e)
{
        if (flags & QEMU_RAM_CONTINUE) {
                if (!p->last_block)
                        return err_msg(e, EBADMSG, "the first page of RAM names no block");
                *ret = p->last_block - 1;
                return QEMUSAVE_STEP_ON;
        }
        if (in->left < 1 || in->left < 1u + in->at[0])
                return QEMUSAVE_STEP_MORE;
        *ret = qemu_ramblock_find(p->blocks, p->nblocks, in->at + 1, in->at[0]);
        if (*ret == p->nblocks)
                return err_msg(e, EBADMSG, "a page is of a RAM block that was not announced");
        qemusave_advance(in, 1u + in->at[0]);
        return QEMUSAVE_STEP_ON;
}

/* More zero pages that lie behind each other in stream and block; none can fail. */
static uint64_t take_zeros(const struct qemusave *p, struct qemusave_in *in, uint64_t offset,
                           uint64_t bytes)
{
        uint64_t room = p->blocks[p->last_block - 1].bytes;

        while (in->left >= 9 && offset + bytes < room && in->at[8] == 0 &&
               get_be64(in->at) == ((offset + bytes) | QEMU_RAM_ZERO | QEMU_RAM_CONTINUE)) {
                qemusave_advance(in, 9);
                bytes += p->head.page_bytes;
        }
        return bytes;
}

static int take_page(struct qemusave *p, struct qemusave_in *in, uint64_t word, uint64_t flags,
                     struct qemusave_item *item, struct err *e)
{
        bool zero = flags & QEMU_RAM_ZERO;
        size_t content = zero ? 1 : p->head.page_bytes;
        struct qemusave_in rest = { in->at + 8, in->left - 8 };
        uint64_t offset = word - flags;
        unsigned block = 0;
        int rc = take_block(p, &rest, flags, &block, e);

        if (rc != QEMUSAVE_STEP_ON)
                return rc;
        if (offset >= p->blocks[block].bytes)
                return err_msg(e, EBADMSG, "RAM block '%s' has no page at 0x%llx",
                               p->blocks[block].name, (unsigned long long)offset);
        if (rest.left < content)
                return QEMUSAVE_STEP_MORE;
        if (zero && rest.at[0] != 0)
                return err_msg(e, EBADMSG, "a page is filled with 0x%02x, not with zeros",
                               rest.at[0]);
        *item = (struct qemusave_item){
                .event = zero ? QEMUSAVE_ZERO : QEMUSAVE_PAGE,
                .block = block, .offset = offset, .bytes = p->head.page_bytes,
                .data = zero ? NULL : rest.at,
        };
        p->last_block = block + 1;
        qemusave_advance(&rest, content);
        if (zero)
                item->bytes = take_zeros(p, &rest, offset, item->bytes);
        *in = rest;
        return QEMUSAVE_STEP_ITEM;
}

static int begin_list(struct qemusave *p, struct qemusave_in *in, uint64_t sum, struct err *e)
{
        if (p->nblocks)
                return err_msg(e, EBADMSG, "it has two lists of RAM blocks");
        if (sum == 0 || sum > QEMU_RAM_BYTES_MAX)
                return err_msg(e, EBADMSG, "a machine cannot have %llu bytes of RAM",
                               (unsigned long long)sum);
        p->list_left = sum;
        p->state = STATE_LIST;
        qemusave_advance(in, 8);
        return QEMUSAVE_STEP_ON;
}

static int end_body(struct qemusave *p, struct qemusave_in *in, struct err *e)
{
        if (!p->nblocks)
                return err_msg(e, EBADMSG, "it has no list of RAM blocks");
        p->state = STATE_FOOTER;
        qemusave_advance(in, 8);
        return QEMUSAVE_STEP_ON;
}

int qemusave_word(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                  struct err *e)
{
        if (in->left < 8)
                return QEMUSAVE_STEP_MORE;

        uint64_t word = get_be64(in->at);
        uint64_t flags = word & (p->head.page_bytes - 1);

        switch (flags) {
        case QEMU_RAM_PAGE:
        case QEMU_RAM_PAGE | QEMU_RAM_CONTINUE:
        case QEMU_RAM_ZERO:
        case QEMU_RAM_ZERO | QEMU_RAM_CONTINUE:
                return take_page(p, in, word, flags, item, e);
        case QEMU_RAM_MEM_SIZE:
                return begin_list(p, in, word - flags, e);
        case QEMU_RAM_EOS:
                return end_body(p, in, e);
        case QEMU_RAM_MULTIFD_FLUSH:    /* 8.1 sends it without multifd too */
                qemusave_advance(in, 8);
                return QEMUSAVE_STEP_ON;
        default:
                return refuse_word(flags, e);
        }
}

/* ---- list of blocks ------------------------------------------------------- */

static int add_block(struct qemusave *p, const uint8_t *name, size_t n, uint64_t bytes,
                     struct err *e)
{
        struct qemu_ramblock *block = &p->blocks[p->nblocks];

        if (p->nblocks == QEMU_BLOCKS_MAX)
                return err_msg(e, ENOTSUP, "the machine has more than %u RAM blocks",
                               QEMU_BLOCKS_MAX);
        if (qemu_ramblock_find(p->blocks, p->nblocks, name, n) < p->nblocks)
                return err_msg(e, EBADMSG, "it has two RAM blocks '%s'",
                               p->blocks[qemu_ramblock_find(p->blocks, p->nblocks, name, n)].name);
        if (!qemu_name_take(name, n, block->name))
                return err_msg(e, EBADMSG, "RAM block %u has no proper name", p->nblocks);
        if (bytes == 0 || bytes > p->list_left || !IS_ALIGNED(bytes, p->head.page_bytes))
                return err_msg(e, EBADMSG, "RAM block '%s' cannot have %llu bytes", block->name,
                               (unsigned long long)bytes);
        block->bytes = bytes;
        p->nblocks++;
        p->list_left -= bytes;
        return QEMUSAVE_STEP_ON;
}

int qemusave_listed(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                    struct err *e)
{
        if (in->left < 1 || in->left < 1u + in->at[0] + 8u)
                return QEMUSAVE_STEP_MORE;

        size_t n = in->at[0];
        int rc = add_block(p, in->at + 1, n, get_be64(in->at + 1 + n), e);

        if (rc != QEMUSAVE_STEP_ON)
                return rc;
        qemusave_advance(in, 1 + n + 8);
        if (p->list_left > 0)
                return QEMUSAVE_STEP_ON;
        p->state = STATE_WORDS;
        item->event = QEMUSAVE_BLOCKS;
        return QEMUSAVE_STEP_ITEM;
}

/* ---- footers -------------------------------------------------------------- */

/* Whether there are footers shows behind the first body: no record has their type. */
int qemusave_footer(struct qemusave *p, struct qemusave_in *in, struct qemusave_item *item,
                    struct err *e)
{
        (void)item;
        if (in->left < 1)
                return QEMUSAVE_STEP_MORE;

        bool footers = p->footers_known ? p->ram.footers : in->at[0] == QEMU_FOOTER;

        if (footers && in->at[0] == QEMU_FOOTER && in->left < QEMU_FOOTER_BYTES)
                return QEMUSAVE_STEP_MORE;
        if (footers && (in->at[0] != QEMU_FOOTER || get_be32(in->at + 1) != p->ram.id))
                return err_msg(e, EBADMSG, "a section of RAM ends without its footer");
        qemusave_advance(in, footers ? QEMU_FOOTER_BYTES : 0);
        p->ram.footers = footers;
        p->footers_known = true;
        p->state = STATE_RECORD;
        return QEMUSAVE_STEP_ON;
}
