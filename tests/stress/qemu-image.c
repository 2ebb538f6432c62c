/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/qemu-image.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "pageserver/adapters/qemu/machine.h"

#define MACHINE "pc-i440fx-7.2"
#define PAGE 4096u
#define DEVICES_BYTES 20000u

#define MUST(call, e) must((call) >= 0, (e)->text, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "qemu-image.c:%d: %s\n", line, what);
        abort();
}

static uint64_t noise(uint64_t *x)
{
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        return *x;
}

/* runs of 1 to 8 pages of one kind; a page of noise may begin with zeros */
static void fill(uint8_t *to, uint64_t bytes, uint64_t seed, bool full)
{
        uint64_t x = seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull;
        uint64_t kind = 0, left = 0;

        for (uint64_t at = 0; at < bytes; at += PAGE, left--) {
                if (left == 0) {
                        kind = noise(&x) % 3;
                        left = noise(&x) % 8 + 1;
                }
                if (kind == 0 && !full)
                        continue;
                for (unsigned i = noise(&x) % 2 * 2048; i < PAGE; i += 8) {
                        uint64_t v = kind == 1 ? noise(&x) : 0x6162636461626364ull + at / 4096;

                        memcpy(to + at + i, &v, sizeof(v));
                }
        }
}

static void make_blocks(struct qemu_image *m, const struct qemu_image_options *o)
{
        static const struct { const char *name; uint64_t bytes; } more[] = {
                { "vga.vram", 1u << 20 }, { "/rom@etc/acpi/tables", 132u << 10 },
                { "0000:00:02.0/vga.rom", 28u << 10 }, { "/rom@etc/acpi/rsdp", PAGE },
        };
        struct named_list pages = { 0 };
        struct qemu_hints hints = { .page_size = &pages };
        struct qemu_blocks *b = &m->state.blocks;
        struct err e;

        MUST(qemu_blocks_add(b, "pc.ram", strlen("pc.ram"), o->ram_bytes, &e), &e);
        for (size_t i = 0; i < ARRAY_SIZE(more); i++)
                MUST(qemu_blocks_add(b, more[i].name, strlen(more[i].name), more[i].bytes, &e),
                     &e);
        if (o->ram_page_bytes) {
                char text[64];

                snprintf(text, sizeof(text), "pc.ram=%u", o->ram_page_bytes);
                MUST(named_add(&pages, text, "--page-size", &e), &e);
        }
        MUST(qemu_machine_place(MACHINE, &hints, b, &e), &e);
        MUST(qemu_blocks_seal(b, PAGE, &e), &e);
}

static void make_state(struct qemu_image *m, const struct qemu_image_options *o)
{
        static const uint8_t head[] = "QEVM\0\0\0\3\7\0\0\0\15" MACHINE;
        struct qemu_state *s = &m->state;

        *s = (struct qemu_state){
                .machine = MACHINE, .page_size = PAGE, .footers = true, .ram_id = 2,
                .ram_version = 4, .head_bytes = sizeof(head) - 1, .devices_bytes = DEVICES_BYTES,
                .vmdesc = strdup("{\"page_size\": 4096}"), .vmdesc_bytes = 19,
        };
        s->head = malloc(s->head_bytes);
        s->devices = calloc(1, DEVICES_BYTES);
        ASSERT(s->head && s->devices && s->vmdesc);
        memcpy(s->head, head, s->head_bytes);
        fill(s->devices, DEVICES_BYTES / PAGE * PAGE, o->seed, true);
        s->devices[0] = 4;              /* a section of a device */
        make_blocks(m, o);
}

static const void *span(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                        struct err *e)
{
        (void)bytes;
        (void)buf;
        (void)ret;
        (void)e;
        return (const uint8_t *)ctx + gpa;
}

static void write_image(const struct qemu_image *m, const char *path,
                        const struct qemu_image_options *o)
{
        struct qs_writer_options w = {
                .cluster_bits = o->cluster_bits, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1,
                .threads = 1, .disk_bytes = m->state.blocks.disk_bytes, .force = !o->tag,
                .append = o->tag, .backing = o->backing,
        };
        struct qs_ram_range range[QS_RAM_RANGES_MAX];
        size_t n = qemu_blocks_ranges(&m->state.blocks, range);
        struct qs_ram_source source = { .span = span, .ctx = m->disk };
        struct qs_writer *writer;
        struct err e;

        if (o->tag)
                snprintf(w.tag, sizeof(w.tag), "%s", o->tag);
        MUST(qs_writer_new(path, &w, &writer, &e), &e);
        MUST(qemu_state_put(writer, &m->state, &e), &e);
        MUST(qs_writer_ram(writer, range, n, &source, NULL, NULL, &e), &e);
        MUST(qs_writer_publish(writer, &e), &e);
        qs_writer_free(writer);
}

void qemu_image_make(struct qemu_image *m, const char *path, const struct qemu_image_options *o)
{
        *m = (struct qemu_image){ 0 };
        make_state(m, o);
        m->disk = mmap(NULL, m->state.blocks.disk_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        ASSERT(m->disk != MAP_FAILED);
        for (size_t i = 0; i < m->state.blocks.n_places; i++) {
                const struct qemu_place *p = &m->state.blocks.places[i];

                fill(m->disk + p->gpa, p->bytes, o->seed + i + 1, o->full);
        }
        write_image(m, path, o);
}

void qemu_image_fini(struct qemu_image *m)
{
        munmap(m->disk, m->state.blocks.disk_bytes);
        qemu_state_fini(&m->state);
}

const uint8_t *qemu_image_at(const struct qemu_image *m, unsigned block, uint64_t offset)
{
        uint64_t gpa, run;
        bool there = qemu_blocks_gpa(&m->state.blocks, block, offset, &gpa, &run);

        ASSERT(there);
        return m->disk + gpa;
}

bool qemu_image_is_zero(const struct qemu_image *m, unsigned block, uint64_t offset,
                        uint64_t bytes)
{
        const uint8_t *p = qemu_image_at(m, block, offset);

        for (uint64_t i = 0; i < bytes; i++) {
                if (p[i])
                        return false;
        }
        return true;
}

void qemu_image_damage(const char *path)
{
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        off_t at = lseek(fd, 0, SEEK_END) / 2;
        uint8_t byte;

        ASSERT(fd >= 0 && pread(fd, &byte, 1, at) == 1);
        byte ^= 0x10;
        ASSERT(pwrite(fd, &byte, 1, at) == 1);
}
