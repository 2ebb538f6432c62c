/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-make FILE FILL [WORD]...: a whole stream of the kit's small machine. Each third page
 * is zero, the others hold FILL plus their number; so two of them have pages in common.
 * Words: background no-footers no-desc return-path twice (a page that comes again) */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/qemu-kit.h"

#define PAGE 4096u
#define RAM_ID 2u

struct order {
        struct qemu_kit kit;
        bool twice;
};

static void page(struct qemubuf *b, const char *block, uint64_t index, unsigned fill)
{
        kit_u64(b, index * PAGE | (fill ? 8 : 2));
        kit_text(b, block);
        kit_fill(b, fill, fill ? PAGE : 1);
}

static void block_pages(struct qemubuf *b, const char *block, unsigned pages, unsigned fill)
{
        for (unsigned i = 0; i < pages; i++)
                page(b, block, i, i % 3 ? (fill + i) % 255 + 1 : 0);
}

static void pages(const struct order *o, struct qemubuf *b, unsigned fill)
{
        kit_u8(b, o->kit.background ? 2 : 3);
        kit_u32(b, RAM_ID);
        if (o->twice)
                page(b, QEMU_KIT_RAM, 1, 0xee);
        block_pages(b, QEMU_KIT_RAM, QEMU_KIT_RAM_PAGES, fill);
        block_pages(b, QEMU_KIT_ROM, QEMU_KIT_ROM_PAGES, fill);
        kit_u64(b, 0x10);
        if (o->kit.no_footers)
                return;
        kit_u8(b, 0x7e);
        kit_u32(b, RAM_ID);
}

static int take_word(struct order *o, const char *word)
{
        const struct {
                const char *word;
                bool *flag;
        } words[] = {
                { "background", &o->kit.background }, { "no-footers", &o->kit.no_footers },
                { "no-desc", &o->kit.no_desc }, { "return-path", &o->kit.return_path },
                { "twice", &o->twice },
        };

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                if (strcmp(word, words[i].word))
                        continue;
                *words[i].flag = true;
                return 0;
        }
        return -1;
}

int main(int argc, char **argv)
{
        struct order o = { .twice = false };
        struct qemubuf b = { .data = NULL };

        if (argc < 3)
                return 2;
        for (int i = 3; i < argc; i++) {
                if (take_word(&o, argv[i]) < 0)
                        return 2;
        }
        qemu_kit_head(&o.kit, &b);
        qemu_kit_start(&o.kit, &b);
        pages(&o, &b, (unsigned)strtoul(argv[2], NULL, 0));
        qemu_kit_tail(&o.kit, &b);

        AUTO_FD fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int rc = fd < 0 || qemubuf_check(&b, NULL) < 0 ? -1 : io_write_full(fd, b.data, b.bytes);

        qemubuf_fini(&b);
        if (rc < 0)
                perror(argv[1]);
        return rc < 0;
}
