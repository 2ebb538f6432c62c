/* SPDX-License-Identifier: Apache-2.0 */
/* payload-verify RAW - is this RAM image of the payload guest one instant?
 *
 * RAW holds guest RAM at guest-physical offsets, holes of the map as holes or
 * zeros. Every word of the pattern array is compared with what the state block
 * in the same image says it must be (vmm/payload/payload.h, INV-WORD and
 * INV-ZERO). An image put together from two instants shows words of a pass
 * that the positions do not allow.
 *
 * Prints `consistent tick N pass P words W` (W: words that hold a pattern) and
 * exits 0; or up to ten differences, and exits 1; 2 if it cannot tell. Files
 * are read in chunks, and where they have holes nothing is read at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/payload/payload.h"

#define CHUNK_BYTES     (1ull << 20)
#define SHOWN_MAX       10

enum { EXIT_CONSISTENT, EXIT_DIFFERENT, EXIT_UNKNOWN };

struct image {
        const char *path;
        int fd;
        uint64_t size_bytes;
        /* [data_gpa, hole_gpa) is known to be data, [known_gpa, data_gpa) and
         * nothing else to be a hole */
        uint64_t known_gpa, data_gpa, hole_gpa;
        uint64_t chunk_gpa;             /* what chunk[] holds, if chunk_full  */
        bool chunk_full;
        uint64_t chunk[CHUNK_BYTES / 8];
};

struct result {
        uint64_t words;
        uint64_t differences;
};

static void fail(const struct image *image, const char *what)
{
        fprintf(stderr, "payload-verify: %s: %s: %s\n", image->path, what,
                strerror(errno));
        exit(EXIT_UNKNOWN);
}

/* What lies behind the end of the file is zero. */
static void image_read(struct image *image, uint64_t gpa, void *ret,
                       size_t len_bytes)
{
        uint8_t *to = ret;
        size_t done = 0;

        while (done < len_bytes) {
                ssize_t n = pread(image->fd, to + done, len_bytes - done,
                                  (off_t)(gpa + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        fail(image, "read");
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        memset(to + done, 0, len_bytes - done);
}

static uint64_t image_seek(struct image *image, uint64_t gpa, int whence)
{
        off_t found = lseek(image->fd, (off_t)gpa, whence);

        if (found >= 0)
                return (uint64_t)found;
        if (errno == ENXIO)
                return image->size_bytes;       /* no data up to the end */
        fail(image, "seek");
        return 0;
}

/* Is the page in a hole? Pages are asked for in rising order, mostly. */
static bool image_hole(struct image *image, uint64_t gpa)
{
        if (gpa < image->known_gpa || gpa >= image->hole_gpa) {
                image->known_gpa = gpa;
                image->data_gpa = image_seek(image, gpa, SEEK_DATA);
                image->hole_gpa = image->data_gpa;
                if (image->data_gpa < image->size_bytes)
                        image->hole_gpa = image_seek(image, image->data_gpa,
                                                     SEEK_HOLE);
        }
        return gpa + PAYLOAD_PAGE_BYTES <= image->data_gpa ||
               gpa >= image->size_bytes;
}

static const uint64_t *image_page(struct image *image, uint64_t gpa)
{
        static const uint64_t zeros[PAYLOAD_PAGE_WORDS];
        uint64_t chunk_gpa = gpa & -CHUNK_BYTES;

        if (image_hole(image, gpa))
                return zeros;
        if (!image->chunk_full || image->chunk_gpa != chunk_gpa)
                image_read(image, chunk_gpa, image->chunk, CHUNK_BYTES);
        image->chunk_full = true;
        image->chunk_gpa = chunk_gpa;
        return image->chunk + (gpa - chunk_gpa) / 8;
}

static bool state_valid(const struct payload_state *s)
{
        uint64_t array_bytes = 0;
        uint32_t i;

        if (s->cpus < 1 || s->cpus > PAYLOAD_CPUS_MAX ||
            s->ranges_count > PAYLOAD_RANGES_MAX ||
            s->pattern > PAYLOAD_RANDOM || s->start_bytes == 0 ||
            s->start_bytes > s->limit_bytes)
                return false;
        for (i = 0; i < s->ranges_count; i++) {
                if (s->ranges[i].gpa % PAYLOAD_PAGE_BYTES ||
                    s->ranges[i].len_bytes % PAYLOAD_PAGE_BYTES ||
                    s->ranges[i].gpa > PAYLOAD_GPA_END ||
                    s->ranges[i].len_bytes > PAYLOAD_GPA_END)
                        return false;
                array_bytes += s->ranges[i].len_bytes;
        }
        return array_bytes == s->array_bytes && s->limit_bytes <= array_bytes;
}

static void state_read(struct image *image, struct payload_state *s)
{
        const char *wrong = NULL;

        image_read(image, PAYLOAD_STATE_GPA, s, sizeof(*s));
        if (memcmp(s->magic, PAYLOAD_MAGIC, sizeof(s->magic)))
                wrong = "no payload state block at 1 MiB";
        else if (s->version != PAYLOAD_VERSION || s->state_bytes != sizeof(*s))
                wrong = "state block of another version";
        else if (s->phase == PAYLOAD_BOOT)
                wrong = "the payload has not started yet";
        else if (s->phase > PAYLOAD_FAULT || !state_valid(s))
                wrong = "the state block contradicts itself";
        if (!wrong)
                return;
        fprintf(stderr, "payload-verify: %s: %s\n", image->path, wrong);
        exit(EXIT_UNKNOWN);
}

static void differ(struct result *result, uint64_t gpa, uint64_t want,
                   uint64_t got)
{
        if (result->differences++ < SHOWN_MAX)
                printf("different gpa=0x%016" PRIx64 " want=0x%016" PRIx64
                       " got=0x%016" PRIx64 "\n", gpa, want, got);
}

/* The contents that a page may show: words before `first` hold `fresh`, those
 * from `first` + PAYLOAD_LINE_WORDS on `old`; in between some first words are
 * fresh and the others old. */
struct expectation {
        struct payload_page fresh, old;
        uint64_t first;
};

static void expect(const struct payload_state *s, uint64_t gpa, uint64_t offset,
                   struct expectation *e)
{
        uint64_t owner = offset / PAYLOAD_STRIPE_BYTES % s->cpus;
        uint32_t pass = (uint32_t)(s->cpu[owner].progress >> 32);
        uint32_t line = (uint32_t)s->cpu[owner].progress;
        uint64_t page_line = offset / PAYLOAD_LINE_BYTES;
        uint32_t old_pass = pass ? payload_content(s, pass - 1, offset) : 0;

        e->first = line < page_line ? 0
                                    : (line - page_line) * PAYLOAD_LINE_WORDS;
        if (line < page_line)
                pass = 0;               /* all old, no line in flight */
        e->old = payload_page_make(gpa, old_pass, s->pattern);
        e->fresh = pass ? payload_page_make(gpa, payload_content(s, pass, offset),
                                            s->pattern)
                        : e->old;
}

static void page_check(const struct expectation *e, const uint64_t *page,
                       uint64_t gpa, struct result *result)
{
        bool in_old = false;
        unsigned i;

        for (i = 0; i < PAYLOAD_PAGE_WORDS; i++) {
                uint64_t fresh = payload_word(&e->fresh, i);
                uint64_t old = payload_word(&e->old, i);
                bool in_flight = i >= e->first &&
                                 i < e->first + PAYLOAD_LINE_WORDS;
                uint64_t want = i < e->first ? fresh : old;

                if (in_flight && !in_old && page[i] == fresh)
                        want = fresh;
                else if (in_flight && fresh != old)
                        in_old = true;
                if (page[i] != want)
                        differ(result, gpa + i * 8, want, page[i]);
                result->words += want != 0;
        }
}

static void image_check(struct image *image, const struct payload_state *s,
                        struct result *result)
{
        uint64_t offset = 0, at;
        uint32_t i;

        for (i = 0; i < s->ranges_count; i++) {
                for (at = 0; at < s->ranges[i].len_bytes;
                     at += PAYLOAD_PAGE_BYTES) {
                        uint64_t gpa = s->ranges[i].gpa + at;
                        struct expectation e;

                        if (offset + at >= s->limit_bytes &&
                            image_hole(image, gpa))
                                continue;
                        expect(s, gpa, offset + at, &e);
                        page_check(&e, image_page(image, gpa), gpa, result);
                }
                offset += s->ranges[i].len_bytes;
        }
}

static int verify(struct image *image)
{
        struct payload_state s;
        struct result result = { 0, 0 };

        state_read(image, &s);
        image_check(image, &s, &result);
        if (result.differences) {
                printf("DIFFERENT tick %" PRIu64 " pass %" PRIu64
                       " words %" PRIu64 "\n", s.tick, s.pass,
                       result.differences);
                return EXIT_DIFFERENT;
        }
        printf("consistent tick %" PRIu64 " pass %" PRIu64 " words %" PRIu64
               "\n", s.tick, s.pass, result.words);
        return EXIT_CONSISTENT;
}

int main(int argc, char **argv)
{
        static struct image image;
        struct stat st;

        if (argc != 2 || argv[1][0] == '-') {
                fprintf(stderr, "usage: payload-verify RAW\n");
                return EXIT_UNKNOWN;
        }
        image.path = argv[1];
        image.fd = open(image.path, O_RDONLY | O_CLOEXEC);
        if (image.fd < 0 || fstat(image.fd, &st) < 0)
                fail(&image, "open");
        image.size_bytes = (uint64_t)st.st_size;
        return verify(&image);
}
