/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no section QEMU-BLOCKS makes its reader misbehave; of what is taken every byte of
 *       every block has a place of its own in the image, and it survives being written.
 * Method: the input as the section of an image of 16 GiB. */
#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "pageserver/adapters/qemu/state.h"
#include "tests/fuzz/fuzz.h"

#define DISK (16ull << 30)

static void judge(const struct qemu_state *s)
{
        const struct qemu_blocks *b = &s->blocks;
        struct qs_ram_range r[QS_RAM_RANGES_MAX];
        uint64_t sum = 0, end = 0, gpa, offset, run;
        unsigned block;

        for (unsigned i = 0; i < b->n; i++) {
                sum += b->at[i].bytes;
                ASSERT(qemu_blocks_find(b, b->at[i].name) == (int)i);
                ASSERT(!qemu_blocks_gpa(b, i, b->at[i].bytes, &gpa, &run));
        }
        for (size_t i = 0; i < b->n_places; i++) {
                const struct qemu_place *p = &b->places[i];

                ASSERT(p->gpa >= end && p->bytes > 0 && p->bytes <= DISK - p->gpa);
                end = p->gpa + p->bytes;
                sum -= p->bytes;
                ASSERT(qemu_blocks_gpa(b, p->block, p->at, &gpa, &run) && gpa == p->gpa);
                ASSERT(qemu_blocks_at(b, end - 1, &block, &offset, &run));
                ASSERT(block == p->block && offset == p->at + p->bytes - 1 && run == 1);
        }
        ASSERT(sum == 0);
        ASSERT(qemu_blocks_ranges(b, r) > 0);
}

static void write_again(const struct qemu_state *s)
{
        struct qemu_state back;
        AUTO_JSON *o = qemu_state_encode(s);
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN);

        ASSERT(qemu_state_decode(text, strlen(text), DISK, &back, NULL) == 0);
        ASSERT(back.blocks.n == s->blocks.n);
        ASSERT(!memcmp(back.blocks.at, s->blocks.at, s->blocks.n * sizeof(*s->blocks.at)));
        ASSERT(!strcmp(back.machine, s->machine) && back.footers == s->footers);
        qemu_state_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct qemu_state s;
        struct err e = { 0 };
        int rc = qemu_state_decode((const char *)data, n, DISK, &s, &e);

        ASSERT(rc == 0 || (e.code == rc && e.text[0]));
        if (rc < 0)
                return 0;
        judge(&s);
        write_again(&s);
        qemu_state_fini(&s);
        return 0;
}
