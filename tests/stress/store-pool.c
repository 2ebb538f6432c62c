/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: whoever opens a tag while others add, replace and delete tags, or compact the
 *       file, reads that tag as one writer saved it, or is told that it is not there;
 *       of two writers one is told that the file is busy, and nothing is lost.
 * Method: threads open and read tags again and again, one checks the whole file; each
 *       page says whose it is and of which generation. Two writers have tags of their
 *       own, and at the end each finds what it published last. Run it under
 *       ThreadSanitizer. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"

#define PAGE 4096u
#define PAGES 96u
#define READERS 3u
#define WRITERS 2u
#define TAGS_EACH 2u
#define TAGS (WRITERS * TAGS_EACH)
#define CHANGES 60u                     /* of each writer */

#define TEST(cond) must((cond), #cond, __LINE__)

/* What each page of a tag begins with, and its section. */
struct stamp {
        uint32_t tag;                   /* TAGS = the one that nobody changes */
        uint32_t generation;
};

struct shared {
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        /* any thread */
        atomic_uint working;            /* writers */
        atomic_uint wrong;
        atomic_uint read;               /* whole tags */
        atomic_uint busy;
};

struct writer {
        struct shared *shared;
        unsigned first;                 /* of its tags */
        uint64_t random;
        uint32_t generation;            /* of the last one saved */
        uint32_t there[TAGS_EACH];      /* generation of each tag; 0 = there is none */
};

static void must(bool ok, const char *what, int line)
{
        if (ok)
                return;
        fprintf(stderr, "store-pool.c:%d: failed: %s\n", line, what);
        exit(1);
}

/* every fourth page is the same in all tags */
static void make_page(uint8_t *p, struct stamp s, uint32_t page)
{
        uint64_t state = 1 + page * 2;

        if (page % 4)
                state += (uint64_t)(s.tag + 1) << 40 | (uint64_t)s.generation << 20;
        memset(p, 0, PAGE);
        store_ram_page(p, PAGE, 1 + page % 2, &state);
        if (page % 4)
                memcpy(p, &s, sizeof(s));
}

static void name_tag(unsigned i, char tag[QS_TAG_MAX + 1])
{
        snprintf(tag, QS_TAG_MAX + 1, "tag %u", i);
}

static int save(const char *path, struct stamp s)
{
        struct kit_ram ram = { .bytes = malloc(PAGES * PAGE), .ranges = 1,
                               .range = { { 0, PAGES * PAGE } } };
        struct qs_ram_source source = kit_source(&ram);
        struct qs_writer_options o = {
                .cluster_bits = 12, .zstd_level = 1, .threads = 2, .disk_bytes = PAGES * PAGE,
                .compress = s.generation % 2 ? QS_COMPRESS_ZSTD : QS_COMPRESS_NONE,
                .append = true, .force = true,
        };
        struct qs_writer *w = NULL;

        ASSERT(ram.bytes);
        for (uint32_t i = 0; i < PAGES; i++)
                make_page(ram.bytes + i * PAGE, s, i);
        name_tag(s.tag, o.tag);

        int rc = qs_writer_new(path, &o, &w, NULL);

        if (rc == 0)
                rc = qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, NULL);
        if (rc == 0)
                rc = qs_writer_section(w, "STAMP", &s, sizeof(s), NULL);
        if (rc == 0)
                rc = qs_writer_publish(w, NULL);
        qs_writer_free(w);
        free(ram.bytes);
        return rc;
}

/* The stamp of the tag if all its pages agree with it. */
static int read_tag(struct qs_image *image, struct stamp *ret)
{
        struct qs_reader *r = NULL;
        AUTO_FREE void *data = NULL;
        size_t bytes = 0;
        int rc = qs_reader_new(image, &r, NULL);

        if (rc == 0)
                rc = qs_section_read(r, "STAMP", &data, &bytes, NULL);
        if (rc == 0 && bytes == sizeof(*ret))
                memcpy(ret, data, bytes);
        for (uint32_t i = 0; rc == 0 && i < PAGES; i++) {
                uint8_t want[PAGE];
                uint8_t got[PAGE];

                make_page(want, *ret, i);
                rc = qs_cluster_read(r, i, got, NULL);
                if (rc == 0 && memcmp(got, want, PAGE) != 0)
                        rc = -EIO;
        }
        qs_reader_free(r);
        return rc;
}

/* tag NULL = the default one. -ENOENT, -EBUSY: it is not there any more. */
static int look(const char *path, const char *tag, struct stamp *ret)
{
        AUTO_FD fd = kit_open(path);
        struct qs_image *image = NULL;
        char name[QS_TAG_MAX + 1];
        int rc = qs_image_open(fd, path, tag, &image, NULL);

        if (rc < 0)
                return rc;
        rc = read_tag(image, ret);
        name_tag(ret->tag, name);
        if (rc == 0 && strcmp(name, qs_image_info(image)->tag) != 0)
                rc = -EIO;
        qs_image_close(image);
        return rc == -ENOENT || rc == -EBUSY ? -EIO : rc;
}

static void *reader(void *arg)
{
        struct shared *s = arg;
        uint64_t random = (uint64_t)(uintptr_t)&random | 1;

        while (atomic_load(&s->working)) {
                unsigned i = (unsigned)(store_random(&random) % (TAGS + 2));
                char tag[QS_TAG_MAX + 1];
                struct stamp stamp = { 0 };

                name_tag(i, tag);

                int rc = look(s->path, i > TAGS ? NULL : tag, &stamp);

                atomic_fetch_add(&s->read, rc == 0);
                /* what is there all the time must open; a default may go while we come */
                if (rc < 0 && (i == TAGS || (rc != -ENOENT && rc != -EBUSY))) {
                        fprintf(stderr, "tag '%s': %d\n", i > TAGS ? "" : tag, rc);
                        atomic_fetch_add(&s->wrong, 1);
                }
        }
        return NULL;
}

/* All of one state of the file, tables that belong to no tag included. */
static void *checker(void *arg)
{
        struct shared *s = arg;

        while (atomic_load(&s->working)) {
                AUTO_FD fd = kit_open(s->path);

                if (kit_check(fd, 1) != 0) {
                        fprintf(stderr, "check\n");
                        atomic_fetch_add(&s->wrong, 1);
                }
        }
        return NULL;
}

/* One change; -EBUSY when another writer or a reader is in the way. */
static int change(struct writer *w)
{
        unsigned k = (unsigned)(store_random(&w->random) % TAGS_EACH);
        struct stamp s = { w->first + k, w->generation + 1 };
        uint64_t what = store_random(&w->random) % 8;
        struct qs_writer_stats stats;
        char tag[QS_TAG_MAX + 1];
        int rc;

        name_tag(s.tag, tag);
        if (what == 0)
                return qs_compact(w->shared->path, NULL, NULL, &stats, NULL);
        if (what < 4 && w->there[k]) {
                rc = qs_snapshot_delete(w->shared->path, tag, NULL);
                if (rc == 0)
                        w->there[k] = 0;
                return rc;
        }
        rc = save(w->shared->path, s);
        if (rc == 0)
                w->there[k] = w->generation = s.generation;
        return rc;
}

static void *writer(void *arg)
{
        struct writer *w = arg;

        for (unsigned done = 0; done < CHANGES;) {
                int rc = change(w);

                done += rc == 0;
                if (rc == -EBUSY) {
                        atomic_fetch_add(&w->shared->busy, 1);
                        usleep(500);
                } else if (rc < 0) {
                        fprintf(stderr, "writer of tag %u: %d\n", w->first, rc);
                        atomic_fetch_add(&w->shared->wrong, 1);
                        done++;
                }
        }
        atomic_fetch_sub(&w->shared->working, 1);
        return NULL;
}

/* what each writer published last is there, what it deleted is not */
static void look_at_all(struct shared *s, const struct writer *w)
{
        AUTO_FD fd = kit_open(s->path);

        for (unsigned i = 0; i < TAGS; i++) {
                uint32_t generation = w[i / TAGS_EACH].there[i % TAGS_EACH];
                struct stamp stamp = { 0 };
                char tag[QS_TAG_MAX + 1];

                name_tag(i, tag);
                TEST(look(s->path, tag, &stamp) == (generation ? 0 : -ENOENT));
                TEST(stamp.generation == generation);
        }
        TEST(kit_check(fd, 1) == 0);
}

int main(void)
{
        struct shared s = { .working = WRITERS };
        struct writer w[WRITERS];
        pthread_t thread[READERS + WRITERS];
        pthread_t check;

        kit_folder(s.folder);
        kit_path(s.folder, "pool", s.path);
        TEST(save(s.path, (struct stamp){ TAGS, 1 }) == 0);
        for (unsigned i = 0; i < READERS + WRITERS; i++) {
                unsigned k = i % WRITERS;
                bool reads = i >= WRITERS;

                if (!reads)
                        w[k] = (struct writer){ .shared = &s, .first = k * TAGS_EACH,
                                                .random = 3 + 2 * k };
                TEST(pthread_create(&thread[i], NULL, reads ? reader : writer,
                                    reads ? (void *)&s : (void *)&w[k]) == 0);
        }
        TEST(pthread_create(&check, NULL, checker, &s) == 0);
        for (unsigned i = 0; i < READERS + WRITERS; i++)
                pthread_join(thread[i], NULL);
        pthread_join(check, NULL);
        printf("%u tags read, %u times busy\n", atomic_load(&s.read), atomic_load(&s.busy));
        TEST(atomic_load(&s.wrong) == 0 && atomic_load(&s.read) > 0 && atomic_load(&s.busy) > 0);
        look_at_all(&s, w);
        unlink(s.path);
        TEST(kit_gone(s.folder));
        return 0;
}
