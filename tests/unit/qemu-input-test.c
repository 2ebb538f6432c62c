/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the stream in a file comes out as it went in, whatever it is wrapped in; a file
 *       that is damaged or not complete never looks complete to who reads (INV-SOUND);
 *       what is not read is refused with the remedy.
 * Method: files made with the same libraries; each cut short at every length; each bit of
 *         the checksum at the end of gzip's turned over. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "pageserver/adapters/qemu/input.h"
#include "pageserver/adapters/qemu/pump.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define TEST_SECONDS 120

/* longer than two of the pump's pieces, and no multiple of anything */
#define LONG_BYTES 700001u
#define SHORT_BYTES 300u
#define FILE_BYTES_MAX (2u << 20)
/* libvirt's: what has less of a magic is plain */
#define MAGIC_BYTES 16u

static char path[] = "/tmp/qemu-input.XXXXXX";

/* ---- files ------------------------------------------------------------------------------ */

struct file {
        uint8_t *data;
        size_t bytes;
};

static struct file file_new(void)
{
        struct file f = { malloc(FILE_BYTES_MAX), 0 };

        if (!f.data)
                abort();
        return f;
}

/* neither constant nor noise */
static void fill(uint8_t *data, size_t bytes)
{
        uint32_t x = 7;

        for (size_t i = 0; i < bytes; i++) {
                x = x * 1664525u + 1013904223u;
                data[i] = i % 3 ? (uint8_t)(x >> 29) : (uint8_t)i;
        }
}

static void add_plain(struct file *f, const uint8_t *data, size_t bytes)
{
        memcpy(f->data + f->bytes, data, bytes);
        f->bytes += bytes;
}

static void add_gzip(struct file *f, const uint8_t *data, size_t bytes)
{
        z_stream z = { .next_in = (uint8_t *)(uintptr_t)data, .avail_in = (unsigned)bytes };

        deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
        z.next_out = f->data + f->bytes;
        z.avail_out = (unsigned)(FILE_BYTES_MAX - f->bytes);
        deflate(&z, Z_FINISH);
        f->bytes += z.total_out;
        deflateEnd(&z);
}

static void add_zstd(struct file *f, const uint8_t *data, size_t bytes)
{
        ZSTD_CCtx *c = ZSTD_createCCtx();

        ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, 1);
        f->bytes += ZSTD_compress2(c, f->data + f->bytes, FILE_BYTES_MAX - f->bytes, data, bytes);
        ZSTD_freeCCtx(c);
}

/* the head that libvirt writes, with a data part of its size */
static void add_libvirt(struct file *f, uint32_t format, const char *magic)
{
        const uint32_t words[] = { 2, 1000, 1, format, 0 };
        uint8_t *at = f->data + f->bytes;

        memset(at, 0, 92 + 1000);
        memcpy(at, magic, 16);
        memcpy(at + 16, words, sizeof(words));
        strcpy((char *)at + 92, "<domain/>");
        f->bytes += 92 + 1000;
}

#define LIBVIRT_DONE "LibvirtQemudSave"
#define LIBVIRT_PART "LibvirtQemudPart"

static void store(const struct file *f, size_t bytes)
{
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        int rc = io_write_full(fd, f->data, bytes);

        ASSERT(rc == 0);
}

/* ---- reading ----------------------------------------------------------------------------- */

struct got {
        uint8_t data[LONG_BYTES + 1000];
        size_t bytes;
        int rc;
        struct err e;
};

/* in pieces of odd sizes */
static void read_file(struct got *g)
{
        struct input *in = NULL;

        g->bytes = 0;
        g->e = (struct err){ 0 };
        g->rc = input_open(path, &in, &g->e);
        while (g->rc == 0) {
                size_t room = MIN(1 + g->bytes % 9973, sizeof(g->data) - g->bytes), n;

                g->rc = input_read(in, g->data + g->bytes, room, &n, &g->e);
                if (g->rc < 0 || n == 0)
                        break;
                g->bytes += n;
        }
        input_close(in);
}

/* what who reads the pipe gets */
static void read_pump(struct got *g, size_t most)
{
        struct input *in = NULL;
        struct pump *pump;
        int fd = -1;

        g->bytes = 0;
        g->e = (struct err){ 0 };
        g->rc = input_open(path, &in, &g->e);
        if (g->rc == 0)
                g->rc = pump_start(in, &pump, &fd, &g->e);
        if (g->rc == 0) {
                for (ssize_t n = 1; n > 0 && g->bytes < most; g->bytes += (size_t)n) {
                        n = read(fd, g->data + g->bytes, most - g->bytes);
                        ASSERT(n >= 0);
                }
                fd_close(&fd);
                g->rc = pump_end(pump, &g->e);
        }
        input_close(in);
}

static bool is_same(const struct got *g, const uint8_t *data, size_t bytes)
{
        return g->bytes == bytes && !memcmp(g->data, data, bytes);
}

/* ---- cases --------------------------------------------------------------------------------- */

typedef void make_fn(struct file *f, const uint8_t *data, size_t bytes);

static void in_two(struct file *f, const uint8_t *data, size_t bytes, make_fn *add)
{
        add(f, data, bytes / 3);
        add(f, data + bytes / 3, bytes - bytes / 3);
}

static void make_gzips(struct file *f, const uint8_t *data, size_t bytes)
{
        in_two(f, data, bytes, add_gzip);
}

static void make_zstds(struct file *f, const uint8_t *data, size_t bytes)
{
        in_two(f, data, bytes, add_zstd);
}

static void make_libvirt(struct file *f, const uint8_t *data, size_t bytes)
{
        add_libvirt(f, 0, LIBVIRT_DONE);
        add_plain(f, data, bytes);
}

static void make_libvirt_gzip(struct file *f, const uint8_t *data, size_t bytes)
{
        add_libvirt(f, 1, LIBVIRT_DONE);
        add_gzip(f, data, bytes);
}

static void make_libvirt_zstd(struct file *f, const uint8_t *data, size_t bytes)
{
        add_libvirt(f, 5, LIBVIRT_DONE);
        add_zstd(f, data, bytes);
}

static const struct {
        const char *name;
        make_fn *make;
        bool knows_end;                 /* a file that was cut short is noticed */
        size_t whole;                   /* in how many places it may end too */
} kinds[] = {
        { "plain", add_plain, false, 0 },
        { "gzip", add_gzip, true, 0 },
        { "zstd", add_zstd, true, 0 },
        { "two of gzip's", make_gzips, true, 1 },
        { "two of zstd's", make_zstds, true, 1 },
        { "libvirt", make_libvirt, false, 0 },
        { "libvirt, gzip", make_libvirt_gzip, true, 0 },
        { "libvirt, zstd", make_libvirt_zstd, true, 0 },
};

static void comes_out(void)
{
        static const size_t sizes[] = { 1, SHORT_BYTES, LONG_BYTES };
        AUTO_FREE uint8_t *data = malloc(LONG_BYTES);
        AUTO_FREE struct got *g = malloc(sizeof(*g));

        fill(data, LONG_BYTES);
        memcpy(data, "QEVM", 4);
        for (size_t i = 0; i < ARRAY_SIZE(kinds) * ARRAY_SIZE(sizes); i++) {
                const char *name = kinds[i % ARRAY_SIZE(kinds)].name;
                size_t bytes = sizes[i / ARRAY_SIZE(kinds)];
                struct file f = file_new();

                kinds[i % ARRAY_SIZE(kinds)].make(&f, data, bytes);
                store(&f, f.bytes);
                free(f.data);
                read_file(g);
                EXPECT_EQUAL(name, g->rc, 0);
                EXPECT_TRUE(name, is_same(g, data, bytes));
                read_pump(g, sizeof(g->data));
                EXPECT_EQUAL(name, g->rc, 0);
                EXPECT_TRUE(name, is_same(g, data, bytes));
        }
}

/* INV-SOUND: at no length does it look complete, but where one of two files ends */
static void cut_short(void)
{
        AUTO_FREE struct got *g = malloc(sizeof(*g));
        uint8_t data[SHORT_BYTES];

        fill(data, sizeof(data));
        memcpy(data, "QEVM", 4);
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                struct file f = file_new();
                size_t whole = 0;

                kinds[i].make(&f, data, sizeof(data));
                for (size_t bytes = MAGIC_BYTES; bytes < f.bytes; bytes++) {
                        store(&f, bytes);
                        read_pump(g, sizeof(g->data));
                        whole += g->rc == 0;
                        EXPECT_TRUE(kinds[i].name, g->bytes < sizeof(data));
                }
                if (kinds[i].knows_end)
                        EXPECT_EQUAL(kinds[i].name, whole, kinds[i].whole);
                free(f.data);
        }
}

static void wrong_sum(void)
{
        AUTO_FREE uint8_t *data = malloc(LONG_BYTES);
        AUTO_FREE struct got *g = malloc(sizeof(*g));

        fill(data, LONG_BYTES);
        for (unsigned bit = 0; bit < 64; bit += 7) {
                struct file f = file_new();

                add_gzip(&f, data, LONG_BYTES);
                f.data[f.bytes - 8 + bit / 8] ^= (uint8_t)(1u << bit % 8);
                store(&f, f.bytes);
                read_pump(g, sizeof(g->data));
                EXPECT_EQUAL("the sum is wrong", g->rc, -EBADMSG);
                EXPECT_TRUE("and the end is not given", g->bytes < LONG_BYTES);
                EXPECT_TRUE("but most of it", g->bytes > LONG_BYTES / 3);
                free(f.data);
        }
}

static void not_wanted(void)
{
        AUTO_FREE uint8_t *data = malloc(FILE_BYTES_MAX);
        AUTO_FREE struct got *g = malloc(sizeof(*g));
        struct file f = { data, FILE_BYTES_MAX };

        fill(data, FILE_BYTES_MAX);
        memcpy(data, "QEVM", 4);
        store(&f, f.bytes);
        read_pump(g, 1000);
        EXPECT_EQUAL("who reads went away", g->rc, 0);
        EXPECT_TRUE("with what he had", is_same(g, data, 1000));
}

static void refused(void)
{
        static const struct {
                const char *name;
                const char *magic;
                size_t bytes;
                const char *words;
        } rows[] = {
                { "bzip2", "BZh9....", 8, "'bzip2 -dc FILE'" },
                { "xz", "\xfd" "7zXZ\0..", 8, "'xz -dc FILE'" },
                { "lzop", "\x89LZO\0\r\n\x1a\n", 9, "'lzop -dc FILE'" },
                { "lz4", "\x04\x22\x4d\x18", 4, "'lz4 -dc FILE'" },
        };
        static const struct {
                const char *name;
                uint32_t format;
                const char *magic;
                const char *words;
        } heads[] = {
                { "libvirt, bzip2", 2, LIBVIRT_DONE, "'tail -c +1093 FILE | bzip2 -dc'" },
                { "libvirt, xz", 3, LIBVIRT_DONE, "'tail -c +1093 FILE | xz -dc'" },
                { "libvirt, newer", 6, LIBVIRT_DONE, "" },
                { "libvirt, not complete", 0, LIBVIRT_PART, "" },
        };
        AUTO_FREE struct got *g = malloc(sizeof(*g));

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                struct file f = file_new();

                add_plain(&f, (const uint8_t *)rows[i].magic, rows[i].bytes);
                store(&f, f.bytes);
                free(f.data);
                read_file(g);
                EXPECT_EQUAL(rows[i].name, g->rc, -ENOTSUP);
                EXPECT_TRUE(g->e.text, strstr(g->e.text, rows[i].words));
        }
        for (size_t i = 0; i < ARRAY_SIZE(heads); i++) {
                struct file f = file_new();

                add_libvirt(&f, heads[i].format, heads[i].magic);
                add_plain(&f, (const uint8_t *)"QEVM", 4);
                store(&f, f.bytes);
                free(f.data);
                read_file(g);
                EXPECT_TRUE(heads[i].name, g->rc < 0);
                EXPECT_TRUE(g->e.text, strstr(g->e.text, heads[i].words));
        }
        unlink(path);
        read_file(g);
        EXPECT_EQUAL("no file", g->rc, -ENOENT);
}

static const CU_TestInfo cases[] = {
        { "the stream comes out", comes_out },
        { "a file that was cut short", cut_short },
        { "a wrong checksum", wrong_sum },
        { "nobody wants the rest", not_wanted },
        { "what is not read", refused },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        int fd = mkstemp(path);

        if (fd < 0)
                return SUITE_SKIP;
        close(fd);
        alarm(TEST_SECONDS);
        signal(SIGPIPE, SIG_IGN);

        int status = suite_main("qemu-input", cases);

        unlink(path);
        return status;
}
