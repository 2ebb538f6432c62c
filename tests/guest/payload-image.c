/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: payload-verify accepts exactly the images that show one instant.
 * Method: images as a guest with two CPUs in the middle of a pass leaves them
 * are made from the text of payload.h by another road, word by word in the
 * order of the stores; then one thing is made wrong in each. The verifier is
 * run as a program, its exit status is the result.
 * Usage: payload-image [VERIFIER]; by make check in the top build directory. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/payload/payload.h"

#define MIB             (1ull << 20)
#define HIGH_GPA        (4096 * MIB)    /* a second range, as above 4 GiB */
#define LOW_BYTES       (10 * MIB)
#define HIGH_BYTES      (4 * MIB)
#define IMAGE_BYTES     (HIGH_GPA + HIGH_BYTES)
#define ARRAY_BYTES     (LOW_BYTES + HIGH_BYTES)
#define CPUS            2

static uint8_t *ram;            /* a sparse memfd at guest-physical offsets */
static int ram_fd;
static const char *verifier;
static int failures;

static struct payload_state *state_at(void)
{
        return (struct payload_state *)(void *)(ram + PAYLOAD_STATE_GPA);
}

static uint64_t gpa_of(uint64_t offset)
{
        return offset < LOW_BYTES ? PAYLOAD_ARRAY_GPA + offset
                                  : HIGH_GPA + offset - LOW_BYTES;
}

static uint64_t *word_at(uint64_t offset)
{
        return (uint64_t *)(void *)(ram + gpa_of(offset));
}

static void image_clear(uint32_t mode)
{
        struct payload_state *s = state_at();

        if (ftruncate(ram_fd, 0) || ftruncate(ram_fd, IMAGE_BYTES))
                abort();
        memcpy(s->magic, PAYLOAD_MAGIC, sizeof(s->magic));
        s->version = PAYLOAD_VERSION;
        s->state_bytes = sizeof(*s);
        s->cpus = CPUS;
        s->mode = mode;
        s->ranges_count = 2;
        s->ranges[0].gpa = PAYLOAD_ARRAY_GPA;
        s->ranges[0].len_bytes = LOW_BYTES;
        s->ranges[1].gpa = HIGH_GPA;
        s->ranges[1].len_bytes = HIGH_BYTES;
        s->array_bytes = ARRAY_BYTES;
        s->limit_bytes = ARRAY_BYTES - PAYLOAD_PAGE_BYTES;
        s->start_bytes = 3 * MIB;
        s->phase = PAYLOAD_RUN;
}

/* One CPU's share of a pass, up to `words` words into it. */
static void share_write(unsigned cpu, uint32_t pass, uint64_t words)
{
        struct payload_state *s = state_at();
        uint64_t window = payload_window(s, pass), offset;

        s->pass = pass;
        for (offset = 0; offset < window && words; offset += 8) {
                uint64_t gpa = gpa_of(offset);
                struct payload_page page;

                if (offset / PAYLOAD_STRIPE_BYTES % CPUS != cpu)
                        continue;
                if (offset % PAYLOAD_LINE_BYTES == 0)
                        s->cpu[cpu].progress =
                                payload_progress(pass, offset / PAYLOAD_LINE_BYTES);
                page = payload_page_make(gpa, pass, s->pattern);
                *word_at(offset) = payload_word(&page, gpa / 8 % PAYLOAD_PAGE_WORDS);
                words--;
        }
        if (words)
                s->cpu[cpu].progress = payload_progress(pass, PAYLOAD_LINE_DONE);
}

/* Passes 1 to `pass` - 1 whole; of `pass` so many words by either CPU. */
static void image_make(uint32_t mode, uint32_t pass, uint64_t words0,
                       uint64_t words1)
{
        uint32_t p;

        image_clear(mode);
        for (p = 1; p < pass; p++) {
                share_write(0, p, UINT64_MAX);
                share_write(1, p, UINT64_MAX);
        }
        share_write(0, pass, words0);
        share_write(1, pass, words1);
}

static int run_verifier(void)
{
        char path[64];
        pid_t pid;
        int status;

        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), ram_fd);
        pid = fork();
        if (pid == 0) {
                execl(verifier, verifier, path, (char *)NULL);
                _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                return -1;
        return WEXITSTATUS(status);
}

static void expect_status(const char *name, int want)
{
        int got;

        fflush(stdout);
        got = run_verifier();
        printf("%s: %s (status %d, want %d)\n", got == want ? "ok" : "FAILED",
               name, got, want);
        failures += got != want;
}

static void good_images(void)
{
        image_make(PAYLOAD_RW, 1, 0, 0);
        expect_status("nothing written yet", 0);
        image_make(PAYLOAD_RW, 1, 1, 0);
        expect_status("the very first word", 0);
        image_make(PAYLOAD_RW, 2, 262144 + 5, 77);
        expect_status("two CPUs within lines, second stripe", 0);
        image_make(PAYLOAD_RW, 3, UINT64_MAX, 8 * 1000);
        expect_status("one CPU done, the other at the end of a line", 0);
        image_make(PAYLOAD_RW, 4, 900000, UINT64_MAX);
        expect_status("words above 4 GiB", 0);
        image_make(PAYLOAD_RO, 4, UINT64_MAX, UINT64_MAX);
        state_at()->pass = 9;
        state_at()->cpu[0].progress = payload_progress(9, 1234);
        state_at()->cpu[1].progress = payload_progress(8, PAYLOAD_LINE_DONE);
        expect_status("read-only passes change nothing", 0);
}

static void bad_image(const char *name, uint64_t offset, uint64_t flip)
{
        image_make(PAYLOAD_RW, 2, 262144 + 5, 77);
        *word_at(offset) ^= flip;
        expect_status(name, 1);
}

static void bad_images(void)
{
        /* CPU 0 is in line 65536 (offset 4 MiB), five words are new */
        bad_image("one bit in what is new", 8, 1);
        bad_image("one bit in what is old", 2 * MIB + 8192, 1);
        bad_image("one bit in a word in flight", 4 * MIB + 8, 1ull << 63);
        bad_image("a word never reached", ARRAY_BYTES - 8, 1);
        bad_image("a word never reached, in a hole", 8 * MIB, 1);

        image_make(PAYLOAD_RW, 2, 262144 + 5, 77);
        state_at()->cpu[0].progress--;
        expect_status("a position one line behind", 1);
        image_make(PAYLOAD_RW, 2, 262144 + 5, 77);
        state_at()->cpu[0].progress++;
        expect_status("a position one line ahead", 1);
        image_make(PAYLOAD_RW, 3, 262144 + 5, 77);
        *word_at(4 * MIB + 8) ^= *word_at(4 * MIB + 56);
        expect_status("a line in flight torn twice", 1);
        image_make(PAYLOAD_RW, 3, UINT64_MAX, UINT64_MAX);
        share_write(0, 2, 512);
        state_at()->cpu[0].progress = payload_progress(3, PAYLOAD_LINE_DONE);
        expect_status("a page of the pass before", 1);
}

static void unknown_images(void)
{
        image_make(PAYLOAD_RW, 1, 0, 0);
        state_at()->phase = PAYLOAD_BOOT;
        expect_status("not started", 2);
        state_at()->phase = PAYLOAD_RUN;
        state_at()->ranges[0].len_bytes++;
        expect_status("ranges that are not pages", 2);
        state_at()->magic[0] = 0;
        expect_status("no state block", 2);
}

int main(int argc, char **argv)
{
        verifier = argc > 1 ? argv[1] : "tests/guest/payload-verify";
        ram_fd = memfd_create("ram", 0);
        if (ram_fd < 0 || ftruncate(ram_fd, IMAGE_BYTES))
                abort();
        ram = mmap(NULL, IMAGE_BYTES, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_NORESERVE, ram_fd, 0);
        if (ram == MAP_FAILED)
                abort();
        good_images();
        bad_images();
        unknown_images();
        return failures != 0;
}
