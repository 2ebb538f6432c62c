/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whatever way an image goes to QEMU, the guest's memory is what was saved, byte by
 *       byte; each page comes once, zeros only when asked for, END not too early; who loses
 *       his source, or is given a damaged image, never sees a wrong byte and can go on.
 * Method: qemu_revert() in a thread against qemu-dest.c, which fails where a QEMU would:
 *       cluster sizes, huge pages, deltas, tags; guests that touch pages at random while
 *       the rest comes, slow readers, deaths and recoveries, a flipped bit. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/rate.h"
#include "tests/stress/qemu-dest.h"
#include "tests/stress/qemu-talk.h"

#define IMAGE "qemu-revert.qcow2"
#define DELTA "qemu-revert-delta.qcow2"
#define RAM (16ull << 20)
/* No case takes a tenth of it, under TSan. */
#define PATIENCE_S 600

#define TEST(cond) must((cond), #cond, __LINE__)

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "qemu-revert.c:%d: failed: %s\n", line, what);
        abort();
}

static const struct dest_plan busy = { .vcpus = 4, .touches = 200, .device_touches = 20 };

static struct revert_options postcopy_of(const char *path)
{
        return (struct revert_options){ .image = path, .postcopy = true,
                                        .prefetch_rate = RATE_UNLIMITED };
}

/* One revert that has to succeed. */
static void revert(const struct qemu_image *m, const struct revert_options *o,
                   const struct dest_plan *plan, bool socket)
{
        struct dest *d = dest_new(m);
        struct talk t;

        talk_start(&t, o, socket);

        enum dest_end end = dest_load(d, t.in, t.out, plan);

        if (talk_end(&t) < 0)
                fprintf(stderr, "%s\n", t.err.text);
        TEST(t.rc == 0 && end == DEST_DONE);
        dest_compare(d);
        dest_free(d);
}

/* ---- cases ----------------------------------------------------------------------- */

static const struct {
        const char *name;
        struct qemu_image_options image;
        unsigned percent;
        struct dest_plan plan;
        bool socket;
} ways[] = {
        { "small clusters", { .cluster_bits = 12 }, 0, { .vcpus = 4, .touches = 200 }, false },
        { "default clusters", { .cluster_bits = 14 }, 0,
          { .vcpus = 4, .touches = 200, .device_touches = 40 }, false },
        { "a socket", { .cluster_bits = 14 }, 0,
          { .vcpus = 4, .touches = 200, .device_touches = 40 }, true },
        { "large clusters", { .cluster_bits = 21 }, 0, { .vcpus = 4, .touches = 100 }, false },
        { "nobody asks", { .cluster_bits = 16 }, 0, { 0 }, false },
        { "no zeros", { .cluster_bits = 16, .full = true }, 0, { .vcpus = 2, .touches = 50 },
          false },
        { "a slow reader", { .cluster_bits = 14 }, 0,
          { .vcpus = 4, .touches = 100, .slow_us = 2000 }, false },
        { "every request four times", { .cluster_bits = 14 }, 0,
          { .vcpus = 4, .touches = 200, .echoes = 3 }, false },
        { "a part ahead", { .cluster_bits = 14 }, 30, { .vcpus = 4, .touches = 200 }, false },
        { "all ahead", { .cluster_bits = 14 }, 100, { .vcpus = 2, .touches = 100 }, true },
        { "all ahead, no zeros", { .cluster_bits = 14, .full = true }, 100,
          { .vcpus = 2, .touches = 100 }, false },
        { "huge pages", { .cluster_bits = 14, .ram_page_bytes = 2u << 20 }, 0,
          { .vcpus = 2, .touches = 20, .device_touches = 2 }, false },
        { "huge pages, large clusters", { .cluster_bits = 21, .ram_page_bytes = 2u << 20 }, 0,
          { .vcpus = 2, .touches = 20 }, false },
        { "pages beyond a batch", { .cluster_bits = 14, .ram_page_bytes = 8u << 20 }, 0,
          { .vcpus = 2, .touches = 4 }, false },
        { "huge pages, a part ahead", { .cluster_bits = 16, .ram_page_bytes = 2u << 20 }, 40,
          { .vcpus = 2, .touches = 20 }, false },
};

static void case_ways(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                struct qemu_image_options image = ways[i].image;
                struct revert_options o = postcopy_of(IMAGE);
                struct qemu_image m;

                printf("  %s\n", ways[i].name);
                image.ram_bytes = RAM;
                image.seed = (unsigned)i;
                qemu_image_make(&m, IMAGE, &image);
                o.percent = ways[i].percent;
                revert(&m, &o, &ways[i].plan, ways[i].socket);
                qemu_image_fini(&m);
        }
}

static void make(struct qemu_image *m)
{
        struct qemu_image_options o = { .ram_bytes = RAM, .cluster_bits = 14, .seed = 7 };

        qemu_image_make(m, IMAGE, &o);
}

static void case_plain(void)
{
        struct revert_options o = { .image = IMAGE, .prefetch_rate = RATE_OFF };
        struct dest_plan plan = { .plain = true };
        struct qemu_image m;

        make(&m);
        revert(&m, &o, &plan, false);
        plan.slow_us = 1000;
        revert(&m, &o, &plan, true);
        qemu_image_fini(&m);
}

/* A delta and its parent, and a tag beside another. */
static void case_files(void)
{
        struct qemu_image_options delta = {
                .ram_bytes = RAM, .cluster_bits = 14, .seed = 8, .backing = IMAGE,
        };
        struct qemu_image_options tag = {
                .ram_bytes = RAM, .cluster_bits = 14, .seed = 9, .tag = "two",
        };
        struct revert_options o = postcopy_of(DELTA);
        struct qemu_image m, n;

        make(&m);
        qemu_image_make(&n, DELTA, &delta);
        revert(&n, &o, &busy, false);
        qemu_image_fini(&n);
        unlink(DELTA);
        unlink(IMAGE);
        qemu_image_fini(&m);

        make(&m);
        qemu_image_make(&n, IMAGE, &tag);
        o.image = IMAGE;
        o.open.tag = "two";
        revert(&n, &o, &busy, false);
        o.open.tag = "default";
        revert(&m, &o, &busy, false);
        qemu_image_fini(&n);
        qemu_image_fini(&m);
}

/* Dies again and again, with one guest that goes on. */
static void case_recover(void)
{
        static const unsigned deaths[] = { 1, 40, 500, 1500 };

        for (int kind = 0; kind < 4; kind++) {
                struct qemu_image_options image = {
                        .ram_bytes = RAM, .cluster_bits = 14, .seed = 3,
                        .ram_page_bytes = kind & 2 ? 2u << 20 : 0,
                };
                struct revert_options o = postcopy_of(IMAGE);
                struct dest_plan plan = busy;
                struct qemu_image m;
                struct talk t;

                qemu_image_make(&m, IMAGE, &image);
                o.percent = kind & 2 ? 20 : 0;

                struct dest *d = dest_new(&m);

                for (size_t i = 0; i < ARRAY_SIZE(deaths); i++) {
                        plan.die_after = kind & 2 ? 1 : deaths[i];
                        talk_start(&t, &o, kind & 1);

                        enum dest_end end = i == 0 ? dest_load(d, t.in, t.out, &plan) :
                                                     dest_recover(d, t.in, t.out, &plan);

                        TEST(talk_end(&t) < 0 && end == DEST_DIED);
                        TEST(strstr(t.err.text, "--recover"));
                        o.recover = true;
                }
                plan.die_after = 0;
                talk_start(&t, &o, kind & 1);
                TEST(dest_recover(d, t.in, t.out, &plan) == DEST_DONE);
                TEST(talk_end(&t) == 0);
                dest_compare(d);
                dest_free(d);
                qemu_image_fini(&m);
        }
}

/* Nothing is pushed but what is to be there at the start: what the guest asks for it gets, and
 * the end never comes. */
static void case_prefetch_off(void)
{
        struct revert_options o = postcopy_of(IMAGE);
        struct dest_plan plan = busy;
        struct qemu_image m;
        struct talk t;

        make(&m);
        o.prefetch_rate = RATE_OFF;
        o.percent = 10;
        plan.die_after = 600;
        plan.touches = 100000;

        struct dest *d = dest_new(&m);

        talk_start(&t, &o, false);
        TEST(dest_load(d, t.in, t.out, &plan) == DEST_DIED);
        TEST(talk_end(&t) < 0);
        TEST(dest_asked(d) >= 600 / 4);         /* a cluster each, at most */
        dest_free(d);
        o.percent = 0;
        o.prefetch_rate = 40u << 20;
        revert(&m, &o, &busy, false);
        qemu_image_fini(&m);
}

/* Guest-physical address of the first cluster of the image's working set that is not zero. */
static uint64_t first_of_set(const struct qemu_image *m)
{
        static const uint8_t zeros[16384];
        struct qs_image *image;
        struct qs_ram_range *set;
        uint64_t gpa = 0;
        size_t n, i = 0;

        TEST(qs_image_open_path(IMAGE, NULL, &image, NULL) == 0);
        TEST(qs_working_set_read(image, &set, &n, NULL) == 0 && n > 0);
        do {
                TEST(i < n);
                gpa = set[i++].gpa / sizeof(zeros) * sizeof(zeros);
        } while (memcmp(m->disk + gpa, zeros, MIN(sizeof(zeros), m->state.blocks.disk_bytes - gpa))
                 == 0);
        free(set);
        qs_image_close(image);
        return gpa;
}

/* What was asked for is stored, and comes first the next time. */
static void case_record(void)
{
        struct revert_options o = postcopy_of(IMAGE);
        struct dest_plan plan = { .vcpus = 4, .touches = 3, .device_touches = 3 };
        struct qemu_image m;
        struct talk t;
        unsigned block;
        uint64_t offset, gpa, run;

        make(&m);
        o.record = true;
        o.record_seconds = 2;
        revert(&m, &o, &plan, false);

        uint64_t first_gpa = first_of_set(&m);
        struct dest *d = dest_new(&m);

        o.record = false;
        plan = (struct dest_plan){ 0 };
        talk_start(&t, &o, false);
        TEST(dest_load(d, t.in, t.out, &plan) == DEST_DONE && talk_end(&t) == 0);
        TEST(dest_order(d, 0, &block, &offset));
        TEST(qemu_blocks_gpa(&m.state.blocks, block, offset, &gpa, &run));
        TEST(gpa - first_gpa < 16384);
        dest_free(d);
        qemu_image_fini(&m);
}

/* Before RUN QEMU is told at once; after it the stream ends, with all bytes right. */
static void case_damaged(void)
{
        for (unsigned percent = 0; percent <= 100; percent += 100) {
                struct revert_options o = postcopy_of(IMAGE);
                struct dest_plan plan = { .vcpus = 4, .touches = 200 };
                struct qemu_image m;
                struct talk t;

                make(&m);
                qemu_image_damage(IMAGE);
                o.percent = percent;

                struct dest *d = dest_new(&m);

                talk_start(&t, &o, false);
                TEST(dest_load(d, t.in, t.out, &plan) == DEST_CUT && talk_end(&t) < 0);
                TEST(dest_ran(d) == (percent == 0));
                TEST(!!strstr(t.err.text, "--recover") == (percent == 0));
                TEST(strstr(t.err.text, "checksum") || strstr(t.err.text, "damaged"));
                dest_free(d);
                qemu_image_fini(&m);
        }
}

static const struct {
        const char *name;
        void (*run)(void);
} cases[] = {
        { "ways", case_ways },
        { "plain", case_plain },
        { "deltas and tags", case_files },
        { "recovery", case_recover },
        { "prefetch off and limited", case_prefetch_off },
        { "record", case_record },
        { "damaged", case_damaged },
};

int main(int argc, char **argv)
{
        signal(SIGPIPE, SIG_IGN);
        setvbuf(stdout, NULL, _IOLBF, 0);
        alarm(PATIENCE_S);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                if (argc > 1 && strcmp(argv[1], cases[i].name))
                        continue;
                printf("%s\n", cases[i].name);
                cases[i].run();
                unlink(IMAGE);
                unlink(DELTA);
        }
        return 0;
}
