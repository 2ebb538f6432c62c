/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "tests/unit/suite.h"

const unsigned world_bits[WORLD_BITS] = { 12, 13, 14, 16, 21 };

struct qs_image *world_open(const char *path, const char *tag)
{
        const struct qs_open_options o = { .tag = tag };
        struct qs_image *m = NULL;
        struct err e = { 0 };

        if (qs_image_open_path(path, &o, &m, &e) < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_PTR_NOT_NULL_FATAL(m);
        return m;
}

void world_save(struct world *w, const char *path, const struct qs_writer_options *o,
                 struct qs_writer_stats *ret)
{
        struct err e = { 0 };
        int rc = guest_save(&w->guest, path, o, ret, &e);

        if (rc < 0)
                fprintf(stderr, "%s\n", e.text);
        CU_ASSERT_EQUAL_FATAL(rc, 0);
        CU_ASSERT_EQUAL(guest_asked_wrongly(&w->guest), 0);
}

void world_begin(struct world *w, unsigned bits, enum qs_compress compress, uint64_t seed)
{
        *w = (struct world){ .o = box_options, .ram = box_ram(seed + 1) };
        kit_folder(w->folder);
        for (unsigned i = 0; i < FILES; i++)
                kit_path(w->folder, (const char *[]){ "a", "b", "c", "d" }[i], w->path[i]);
        w->o.cluster_bits = bits;
        w->o.compress = compress;
        CU_ASSERT_EQUAL_FATAL(kit_save(w->path[A], &w->o, &w->ram, NULL), 0);
        w->parent = world_open(w->path[A], NULL);
        guest_init(&w->guest, w->parent, w->ram.bytes, seed);
}

void world_end(struct world *w)
{
        qs_image_close(w->parent);
        guest_fini(&w->guest);
        free(w->ram.bytes);
        for (unsigned i = 0; i < FILES; i++)
                unlink(w->path[i]);
        CU_ASSERT(kit_gone(w->folder));
}

void world_put_layer(struct world *w, bool alike)
{
        struct qs_writer_options o = w->o;

        o.backing = w->path[A];
        guest_runs(&w->guest, w->ram.bytes, guest_below(&w->guest, 2), 60);
        memcpy(w->ram.bytes, w->guest.bytes, BOX_BYTES);
        if (alike)
                world_save(w, w->path[B], &o, NULL);
        else
                CU_ASSERT_EQUAL_FATAL(kit_save(w->path[B], &o, &w->ram, NULL), 0);
        qs_image_close(w->parent);
        w->parent = w->guest.parent = world_open(w->path[B], NULL);
        guest_agrees(&w->guest, w->path[B], NULL);
}

void world_begin_again(struct world *w)
{
        w->o.force = true;
        qs_image_close(w->parent);
        CU_ASSERT_EQUAL_FATAL(kit_save(w->path[A], &w->o, &w->ram, NULL), 0);
        w->parent = w->guest.parent = world_open(w->path[A], NULL);
}
