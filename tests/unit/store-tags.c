/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/store-tags.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "qcowstore/layout.h"
#include "qcowstore/writer-priv.h"
#include "tests/unit/store-ram.h"

#define PAGE LAYOUT_PAGE_BYTES
#define SECTION_MAX 20000

void tags_init(struct tags *t, unsigned cluster_bits, uint64_t disk_bytes, uint64_t seed)
{
        *t = (struct tags){
                .options = { .cluster_bits = cluster_bits, .zstd_level = 1, .threads = 2,
                             .disk_bytes = disk_bytes, .append = true },
                .range = { { 0, disk_bytes } }, .ranges = 1, .random = seed * 2 + 1,
        };
        kit_folder(t->folder);
        kit_path(t->folder, "pool", t->path);
}

static void drop(struct tags *t, unsigned i)
{
        free(t->tag[i].ram);
        free(t->tag[i].section);
        t->n--;
        memmove(&t->tag[i], &t->tag[i + 1], (t->n - i) * sizeof(t->tag[0]));
}

bool tags_fini(struct tags *t)
{
        while (t->n)
                drop(t, t->n - 1);
        unlink(t->path);
        return kit_gone(t->folder);
}

static unsigned index_of(const struct tags *t, const char *name)
{
        unsigned i = 0;

        while (i < t->n && strcmp(t->tag[i].name, name) != 0)
                i++;
        return i;
}

const struct tag *tags_find(const struct tags *t, const char *name)
{
        unsigned i = index_of(t, name);

        return i < t->n ? &t->tag[i] : NULL;
}

uint8_t *tags_ram(const struct tags *t, const char *like)
{
        uint8_t *ram = calloc(1, t->options.disk_bytes);
        const struct tag *from = like ? tags_find(t, like) : NULL;

        ASSERT(ram && (from || !like));
        if (from)
                memcpy(ram, from->ram, t->options.disk_bytes);
        return ram;
}

static bool is_ram(const struct tags *t, uint64_t gpa)
{
        for (size_t i = 0; i < t->ranges; i++) {
                if (gpa >= t->range[i].gpa && gpa - t->range[i].gpa < t->range[i].bytes)
                        return true;
        }
        return false;
}

void tags_scribble(struct tags *t, uint8_t *ram, unsigned pages)
{
        uint64_t all = t->options.disk_bytes / PAGE;

        for (unsigned i = 0; i < pages; i++) {
                uint64_t to = store_random(&t->random) % all;
                uint64_t from = store_random(&t->random) % all;
                unsigned kind = (unsigned)(store_random(&t->random) % 4);

                if (!is_ram(t, to * PAGE))
                        continue;
                if (kind == 3) {
                        memmove(ram + to * PAGE, ram + from * PAGE, PAGE);
                        continue;
                }
                memset(ram + to * PAGE, 0, PAGE);
                store_ram_page(ram + to * PAGE, PAGE, kind, &t->random);
        }
}

static int put_all(struct tags *t, struct qs_writer *w, const struct tag *tag, struct err *e)
{
        struct kit_ram ram = { .bytes = tag->ram, .copies = 1 };
        struct qs_ram_source source = kit_source(&ram);

        if (t->refs_max)
                w->refs_max = t->refs_max;

        int rc = qs_writer_section(w, "SERIAL", tag->section, tag->section_bytes, e);

        if (rc == 0)
                rc = qs_writer_ram(w, t->range, t->ranges, &source, NULL, NULL, e);
        if (rc == 0)
                rc = qs_writer_publish(w, e);
        if (rc == 0)
                qs_writer_stats(w, &t->stats);
        return rc;
}

static void make_section(struct tags *t, struct tag *tag)
{
        tag->section_bytes = store_random(&t->random) % SECTION_MAX;
        tag->section = malloc(tag->section_bytes + 1);
        ASSERT(tag->section);
        for (size_t i = 0; i < tag->section_bytes; i++)
                tag->section[i] = (uint8_t)store_random(&t->random);
}

int tags_save(struct tags *t, const char *name, uint8_t *ram, struct err *e)
{
        struct qs_writer *w = NULL;
        struct tag tag = { .ram = ram };
        unsigned old = index_of(t, name);

        ASSERT(t->n < TAGS_MAX || old < t->n);
        snprintf(tag.name, sizeof(tag.name), "%s", name);
        snprintf(t->options.tag, sizeof(t->options.tag), "%s", name);
        make_section(t, &tag);

        int rc = qs_writer_new(t->path, &t->options, &w, e);

        if (rc == 0)
                rc = put_all(t, w, &tag, e);
        qs_writer_free(w);
        if (rc < 0) {
                free(tag.ram);
                free(tag.section);
                return rc;
        }
        if (old < t->n)
                drop(t, old);
        t->tag[t->n++] = tag;
        return 0;
}

int tags_delete(struct tags *t, const char *name, struct err *e)
{
        int rc = qs_snapshot_delete(t->path, name, e);

        if (rc == 0)
                drop(t, index_of(t, name));
        return rc;
}

static unsigned wrong(const char *what, const char *name)
{
        fprintf(stderr, "tag '%s': %s\n", name, what);
        return 1;
}

unsigned tags_differ(const struct tags *t, const struct tag *tag, struct qs_image *image)
{
        struct qs_reader *r = NULL;
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;
        unsigned n = 0;

        (void)t;
        if (kit_compare(image, tag->ram) != 0)
                n += wrong("memory differs", tag->name);
        if (qs_reader_new(image, &r, NULL) < 0 ||
            qs_section_read(r, "SERIAL", &data, &bytes, NULL) < 0 ||
            bytes != tag->section_bytes || memcmp(data, tag->section, bytes) != 0)
                n += wrong("its section differs", tag->name);
        qs_reader_free(r);
        return n;
}

static unsigned wrong_tag(const struct tags *t, const struct tag *tag, bool by_default)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_image *image;
        struct err e = { 0 };
        unsigned n = 0;

        if (qs_image_open(fd, t->path, by_default ? NULL : tag->name, &image, &e) < 0)
                return wrong(e.text, tag->name);
        if (strcmp(qs_image_info(image)->tag, tag->name) != 0)
                n += wrong("is not what was opened", tag->name);
        n += tags_differ(t, tag, image);
        qs_image_close(image);
        return n;
}

static unsigned wrong_list(const struct tags *t)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_snapshot_info *list = NULL;
        size_t count = 0;
        unsigned n = 0;
        struct err e = { 0 };

        if (qs_snapshot_list(fd, t->path, &list, &count, &e) < 0)
                return wrong(e.text, "list");
        if (count != t->n)
                n += wrong("another number of them", "list");
        for (size_t i = 0; i < MIN(count, t->n); i++) {
                if (strcmp(list[i].tag, t->tag[i].name) != 0)
                        n += wrong("is not where it should be", list[i].tag);
                if (list[i].is_default != (i + 1 == count))             /* INV-LATEST */
                        n += wrong("wrong default", list[i].tag);
                for (size_t k = 0; k < i; k++)
                        n += strcmp(list[i].id, list[k].id) == 0 ? wrong("id twice", list[i].tag)
                                                                 : 0;
        }
        free(list);
        return n;
}

static void say(void *ctx, const char *text)
{
        unsigned *said = ctx;

        if ((*said)++ < 5)
                fprintf(stderr, "%s\n", text);
}

static unsigned wrong_file(const struct tags *t, bool contents)
{
        AUTO_FD fd = kit_open(t->path);
        struct qs_check_report report;
        unsigned said = 0;
        int rc = qs_check(fd, "pool", contents, say, &said, NULL, NULL, &report, NULL);

        return rc < 0 || report.corruptions + report.leaks + report.changed;
}

unsigned tags_wrong(const struct tags *t, bool contents)
{
        unsigned n = wrong_list(t) + wrong_file(t, contents);

        for (unsigned i = 0; i < t->n; i++)
                n += wrong_tag(t, &t->tag[i], false);
        return n + wrong_tag(t, &t->tag[t->n - 1], true);
}
