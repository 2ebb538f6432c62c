/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: each request to a block device does what virtio says it does, or ends with the status
 *   that virtio names; one without header or status breaks the device; its state is loaded
 *   where the disk fits.
 * Method: a driver over a ring in small RAM (blk-kit.h); tables of requests, right and wrong;
 *   the disk is a file in memory, and looked at behind the device's back. */
#include <CUnit/CUnit.h>
#include <errno.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/blk-kit.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

enum { OK = VIRTIO_BLK_S_OK, IOERR = VIRTIO_BLK_S_IOERR, UNSUPP = VIRTIO_BLK_S_UNSUPP };
enum {
        IN = VIRTIO_BLK_T_IN, OUT = VIRTIO_BLK_T_OUT, FLUSH = VIRTIO_BLK_T_FLUSH,
        GET_ID = VIRTIO_BLK_T_GET_ID, DISCARD = VIRTIO_BLK_T_DISCARD,
        ZEROES = VIRTIO_BLK_T_WRITE_ZEROES, ERASE = VIRTIO_BLK_T_SECURE_ERASE,
};

#define FEATURE(bit) (1ull << (bit))
#define LAST (KIT_DISK_SECTORS - 1)

static const struct blk_kit_options everything = { .features = KIT_ALL_FEATURES };
static const struct blk_kit_options nothing = { .features = 0 };
static const struct blk_kit_options read_only = {
        .read_only = true, .features = KIT_ALL_FEATURES,
};

struct row {
        const char *name;
        const struct blk_kit_options *options;
        uint32_t type;
        uint64_t sector;
        uint32_t out_bytes, in_bytes;
        int want;
        uint32_t written;
};

static void requests(void)
{
        static const struct row rows[] = {
                { "read a sector", &everything, IN, 0, 0, 512, OK, 513 },
                { "read the last sector", &everything, IN, LAST, 0, 512, OK, 513 },
                { "read nothing", &everything, IN, 0, 0, 0, OK, 1 },
                { "read nothing at the end", &everything, IN, LAST + 1, 0, 0, OK, 1 },
                { "read behind the end", &everything, IN, LAST + 1, 0, 512, IOERR, 0 },
                { "read across the end", &everything, IN, LAST, 0, 1024, IOERR, 0 },
                { "read half a sector", &everything, IN, 0, 0, 256, IOERR, 0 },
                { "read too much by a byte", &everything, IN, 0, 0, 513, IOERR, 0 },
                { "read where bytes overflow", &everything, IN, UINT64_MAX / 512 + 1, 0, 512,
                  IOERR, 0 },
                { "read at the largest sector", &everything, IN, UINT64_MAX, 0, 512, IOERR, 0 },
                { "write a sector", &everything, OUT, 5, 512, 0, OK, 1 },
                { "write behind the end", &everything, OUT, LAST + 1, 512, 0, IOERR, 1 },
                { "write across the end", &everything, OUT, LAST, 1024, 0, IOERR, 1 },
                { "write half a sector", &everything, OUT, 0, 511, 0, IOERR, 1 },
                { "write at the largest sector", &everything, OUT, UINT64_MAX, 512, 0, IOERR, 1 },
                { "write what is read only", &read_only, OUT, 0, 512, 0, IOERR, 1 },
                { "read what is read only", &read_only, IN, 0, 0, 512, OK, 513 },
                { "flush", &everything, FLUSH, 0, 0, 0, OK, 1 },
                { "flush what is read only", &read_only, FLUSH, 0, 0, 0, OK, 1 },
                { "flush, not negotiated", &nothing, FLUSH, 0, 0, 0, UNSUPP, 1 },
                { "serial number", &everything, GET_ID, 0, 0, 20, OK, 21 },
                { "half of the serial number", &everything, GET_ID, 0, 0, 7, OK, 8 },
                { "room for more than a serial number", &everything, GET_ID, 0, 0, 64, OK, 20 },
                { "discard without a range", &everything, DISCARD, 0, 0, 0, IOERR, 1 },
                { "discard with half a range", &everything, DISCARD, 0, 8, 0, IOERR, 1 },
                { "discard, one and a half", &everything, DISCARD, 0, 24, 0, IOERR, 1 },
                { "discard, not negotiated", &nothing, DISCARD, 0, 16, 0, UNSUPP, 1 },
                { "discard what is read only", &read_only, DISCARD, 0, 16, 0, IOERR, 1 },
                { "discard, a range too many", &everything, DISCARD, 0, 17 * 16, 0, IOERR, 1 },
                { "zeroes, not negotiated", &nothing, ZEROES, 0, 16, 0, UNSUPP, 1 },
                { "zeroes of what is read only", &read_only, ZEROES, 0, 16, 0, IOERR, 1 },
                { "zeroes, two ranges", &everything, ZEROES, 0, 32, 0, IOERR, 1 },
                { "erase", &everything, ERASE, 0, 16, 0, UNSUPP, 1 },
                { "SCSI", &everything, 2, 0, 0, 512, UNSUPP, 0 },
                { "what nobody knows", &everything, 0xffffffff, 0, 0, 0, UNSUPP, 1 },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct row *r = &rows[i];
                struct virtio_blk_stats stats;
                struct blk_kit k;

                blk_kit_init(&k, r->options);
                EXPECT_EQUAL(r->name, blk_kit_do(&k, 3, r->type, r->sector, r->out_bytes,
                                                 r->in_bytes), r->want);
                EXPECT_EQUAL(r->name, k.written[3], r->written);
                EXPECT_TRUE(r->name, blk_kit_broken(false) == NULL);
                virtio_blk_stats(k.dev, &stats);
                EXPECT_EQUAL(r->name, stats.errors, r->want != OK);
                EXPECT_EQUAL(r->name, stats.last_error, 0);
                blk_kit_fini(&k);
        }
}

/* Ranges of discard and zeroes, as in the request's table. */
static void ranges(void)
{
        static const struct {
                const char *name;
                uint32_t type;
                uint64_t sector;
                uint32_t sectors, flags;
                int want;
        } rows[] = {
                { "discard", DISCARD, 8, 8, 0, OK },
                { "discard all", DISCARD, 0, KIT_DISK_SECTORS, 0, OK },
                { "discard nothing", DISCARD, 0, 0, 0, OK },
                { "discard to the end", DISCARD, LAST, 1, 0, OK },
                { "discard across the end", DISCARD, LAST, 2, 0, IOERR },
                { "discard behind the end", DISCARD, LAST + 2, 0, 0, IOERR },
                { "discard, overflow", DISCARD, UINT64_MAX, 2, 0, IOERR },
                { "discard too much", DISCARD, 0, UINT32_MAX, 0, IOERR },
                { "discard with unmap", DISCARD, 8, 8, 1, UNSUPP },
                { "discard, unknown flag", DISCARD, 8, 8, 0x80000000, UNSUPP },
                { "zeroes", ZEROES, 8, 8, 0, OK },
                { "zeroes with unmap", ZEROES, 9, 6, 1, OK },
                { "zeroes, unknown flag", ZEROES, 8, 8, 2, UNSUPP },
                { "zeroes across the end", ZEROES, LAST, 2, 0, IOERR },
                { "zeroes, overflow", ZEROES, UINT64_MAX - 1, 4, 0, IOERR },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct blk_kit k;
                uint8_t *data;
                uint8_t got[KIT_SLOT_BYTES];

                blk_kit_init(&k, &everything);
                data = blk_kit_data(&k, 0);
                memset(data, 0x5a, KIT_SLOT_BYTES);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 0, OUT, 8, KIT_SLOT_BYTES, 0), OK);
                put_le64(data, rows[i].sector);
                put_le32(data + 8, rows[i].sectors);
                put_le32(data + 12, rows[i].flags);
                EXPECT_EQUAL(rows[i].name, blk_kit_do(&k, 0, rows[i].type, 77, 16, 0),
                             rows[i].want);
                EXPECT_EQUAL(rows[i].name, pread(k.disk_fd, got, sizeof(got), 8 * 512),
                             sizeof(got));
                bool touched = rows[i].want == OK && rows[i].sectors >= 6;

                EXPECT_EQUAL(rows[i].name, got[2048], touched ? 0 : 0x5a);
                blk_kit_fini(&k);
        }
}

/* One of several that is wrong: nothing of them is done. */
static void all_ranges_or_none(void)
{
        struct blk_kit k;
        uint8_t *data, byte;

        blk_kit_init(&k, &everything);
        CU_ASSERT_EQUAL(pwrite(k.disk_fd, "x", 1, 0), 1);
        data = blk_kit_data(&k, 0);
        memset(data, 0, 48);
        put_le32(data + 8, 1);
        put_le64(data + 32, KIT_DISK_SECTORS);
        put_le32(data + 40, 1);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, DISCARD, 0, 48, 0), IOERR);
        CU_ASSERT_EQUAL(pread(k.disk_fd, &byte, 1, 0), 1);
        CU_ASSERT_EQUAL(byte, 'x');
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, DISCARD, 0, 32, 0), OK);
        CU_ASSERT_EQUAL(pread(k.disk_fd, &byte, 1, 0), 1);
        CU_ASSERT_EQUAL(byte, 0);
        blk_kit_fini(&k);
}

/* Header, status and data in pieces that have nothing to do with them. */
static void scattered(void)
{
        enum { PIECES = 100 };
        struct vqguest_buf bufs[PIECES + 2];
        struct blk_kit k;
        struct vqguest_buf header = blk_kit_header(0);
        uint8_t *data, got[PIECES * 512];

        blk_kit_init(&k, &everything);
        data = blk_kit_data(&k, 1);
        for (unsigned i = 0; i < PIECES * 512; i++)
                data[i] = (uint8_t)(i * 31 / 7);

        /* OUT: seven bytes of the header, the rest of it, the data, the status */
        bufs[0] = (struct vqguest_buf){ header.gpa, 7, false };
        bufs[1] = (struct vqguest_buf){ header.gpa + 7, 9, false };
        for (unsigned i = 0; i < PIECES - 1; i++)
                bufs[2 + i] = (struct vqguest_buf){ blk_kit_data_gpa(1) + i * 512,
                                                    i == PIECES - 2 ? 1024 : 512, false };
        bufs[PIECES + 1] = blk_kit_answer(0);
        blk_kit_submit_bufs(&k, 0, OUT, 10, bufs, PIECES + 2);
        blk_kit_kick(&k);
        CU_ASSERT_TRUE(blk_kit_wait(&k, 1));
        CU_ASSERT_EQUAL(*blk_kit_status(&k, 0), OK);
        CU_ASSERT_EQUAL(pread(k.disk_fd, got, sizeof(got), 10 * 512), sizeof(got));
        CU_ASSERT_EQUAL(memcmp(got, data, sizeof(got)), 0);

        /* IN: data with the status as its last byte, in pieces of 511 */
        bufs[0] = header;
        for (unsigned i = 0; i < 3; i++)
                bufs[1 + i] = (struct vqguest_buf){ blk_kit_data_gpa(60) + i * 1000,
                                                    i == 2 ? 3 : 511, true };
        data = blk_kit_data(&k, 60);
        blk_kit_submit_bufs(&k, 0, IN, 10, bufs, 4);
        blk_kit_kick(&k);
        CU_ASSERT_TRUE(blk_kit_wait(&k, 2));
        CU_ASSERT_EQUAL(k.written[0], 1025);
        CU_ASSERT_EQUAL(memcmp(data, got, 511), 0);
        CU_ASSERT_EQUAL(memcmp(data + 1000, got + 511, 511), 0);
        CU_ASSERT_EQUAL(memcmp(data + 2000, got + 1022, 2), 0);
        CU_ASSERT_EQUAL(data[2002], OK);
        blk_kit_fini(&k);
}

static void serial_number(void)
{
        struct blk_kit k;

        blk_kit_init(&k, &everything);
        memset(blk_kit_data(&k, 0), 'x', 64);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, GET_ID, 0, 0, 20), OK);
        CU_ASSERT_EQUAL(memcmp(blk_kit_data(&k, 0), "serial-of-disk0-is-lx", 21), 0);
        blk_kit_fini(&k);
}

static void errors_of_the_disk(void)
{
        struct virtio_blk_stats s;
        struct blk_kit k;

        blk_kit_init(&k, &everything);
        blk_kit_fail(-EIO);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, IN, 0, 0, 512), IOERR);
        CU_ASSERT_EQUAL(k.written[0], 0);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 1, OUT, 0, 512, 0), IOERR);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 2, FLUSH, 0, 0, 0), IOERR);
        blk_kit_fail(0);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, IN, 0, 0, 1024), OK);
        CU_ASSERT_EQUAL(blk_kit_do(&k, 0, OUT, 0, 512, 0), OK);
        virtio_blk_stats(k.dev, &s);
        CU_ASSERT_EQUAL(s.errors, 3);
        CU_ASSERT_EQUAL(s.last_error, EIO);
        CU_ASSERT_EQUAL(s.reads, 1);
        CU_ASSERT_EQUAL(s.read_bytes, 1024);
        CU_ASSERT_EQUAL(s.writes, 1);
        CU_ASSERT_EQUAL(s.written_bytes, 512);

        AUTO_JSON *o = json_object_new_object();
        char want[160];

        snprintf(want, sizeof(want), "{\"reads\":1,\"read_bytes\":1024,\"writes\":1,"
                 "\"written_bytes\":512,\"flushes\":%u,\"discards\":0,\"zeroes\":0,"
                 "\"errors\":3}", (unsigned)s.flushes);
        k.dev->class->describe(k.dev, o);
        CU_ASSERT_STRING_EQUAL(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN), want);
        blk_kit_fini(&k);
}

/* virtio 1.2, 5.2.5.2: without FLUSH what is answered is durable. */
static void write_through(void)
{
        static const struct {
                const char *name;
                uint64_t features;
                unsigned flushes;
        } rows[] = {
                { "with flush", KIT_ALL_FEATURES, 0 },
                { "without", ~FEATURE(VIRTIO_BLK_F_FLUSH), 3 },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                const struct blk_kit_options o = { .features = rows[i].features };
                struct blk_kit k;

                blk_kit_init(&k, &o);
                memset(blk_kit_data(&k, 0), 0, 512);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 0, OUT, 0, 512, 0), OK);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 0, DISCARD, 0, 16, 0), OK);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 0, ZEROES, 0, 16, 0), OK);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 0, IN, 0, 0, 512), OK);
                EXPECT_EQUAL(rows[i].name, blk_kit_flushes(), rows[i].flushes);
                blk_kit_fini(&k);
        }
}

/* ---- what breaks the device ------------------------------------------------- */

static void no_status(struct blk_kit *k)
{
        struct vqguest_buf bufs[] = { blk_kit_header(0), { blk_kit_data_gpa(0), 512, false } };

        blk_kit_submit_bufs(k, 0, OUT, 0, bufs, 2);
}

static void short_header(struct blk_kit *k)
{
        struct vqguest_buf bufs[] = { blk_kit_header(0), blk_kit_answer(0) };

        bufs[0].bytes = 15;
        blk_kit_submit_bufs(k, 0, FLUSH, 0, bufs, 2);
}

static void header_to_write(struct blk_kit *k)
{
        struct vqguest_buf bufs[] = { blk_kit_header(0), blk_kit_answer(0) };

        bufs[0].device_writes = true;
        blk_kit_submit_bufs(k, 0, FLUSH, 0, bufs, 2);
}

static void outside_ram(struct blk_kit *k)
{
        struct vqguest_buf bufs[] = { blk_kit_header(0), { 0xd0000000, 512, true },
                                      blk_kit_answer(0) };

        blk_kit_submit_bufs(k, 0, IN, 0, bufs, 3);
}

static void index_jumps(struct blk_kit *k)
{
        __atomic_fetch_add(&k->guest.ring.avail->idx, KIT_QUEUE + 1, __ATOMIC_SEQ_CST);
}

static void breaks(void)
{
        static const struct {
                const char *name;
                void (*submit)(struct blk_kit *k);
                const char *says;
        } rows[] = {
                { "no status", no_status, "no room for its status" },
                { "a short header", short_header, "has 15 bytes to read, less than a header" },
                { "a header to write", header_to_write, "has 0 bytes to read" },
                { "data outside RAM", outside_ram, "not inside RAM" },
                { "an index that jumps", index_jumps, "jumped" },
        };

        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct blk_kit k;
                const char *why;

                blk_kit_init(&k, &everything);
                CU_ASSERT_EQUAL(blk_kit_do(&k, 1, IN, 0, 0, 512), OK);
                rows[i].submit(&k);
                blk_kit_kick(&k);
                why = blk_kit_broken(true);
                EXPECT_TRUE(rows[i].name, why && strstr(why, rows[i].says));

                /* nothing is served any more, and nothing hangs */
                k.dev->class->drain(k.dev);
                EXPECT_EQUAL(rows[i].name, blk_kit_wait(&k, 1), true);
                EXPECT_EQUAL(rows[i].name, k.guest.ring.used->idx, 1);
                blk_kit_fini(&k);
        }
}

/* ---- state ------------------------------------------------------------------ */

static void configuration(void) NO_TSA
{
        struct virtio_blk_config c = { 0 };
        struct blk_kit k;

        blk_kit_init(&k, &everything);
        memcpy(&c, k.dev->config, k.dev->config_bytes);
        CU_ASSERT_EQUAL(c.capacity, KIT_DISK_SECTORS);
        CU_ASSERT_EQUAL(c.seg_max, 126);
        CU_ASSERT_EQUAL(c.blk_size, 512);
        CU_ASSERT_EQUAL(c.max_discard_seg, 16);
        CU_ASSERT_EQUAL(c.max_write_zeroes_seg, 1);
        CU_ASSERT_EQUAL(c.write_zeroes_may_unmap, 1);
        CU_ASSERT_EQUAL(k.dev->class->id, 2);
        CU_ASSERT_EQUAL(k.dev->host_features, FEATURE(VIRTIO_BLK_F_SEG_MAX) |
                        FEATURE(VIRTIO_BLK_F_BLK_SIZE) | FEATURE(VIRTIO_BLK_F_FLUSH) |
                        FEATURE(VIRTIO_BLK_F_DISCARD) | FEATURE(VIRTIO_BLK_F_WRITE_ZEROES));
        blk_kit_fini(&k);

        blk_kit_init(&k, &read_only);
        memcpy(&c, k.dev->config, k.dev->config_bytes);
        CU_ASSERT_EQUAL(c.max_discard_seg, 0);
        CU_ASSERT_EQUAL(k.dev->host_features, FEATURE(VIRTIO_BLK_F_SEG_MAX) |
                        FEATURE(VIRTIO_BLK_F_BLK_SIZE) | FEATURE(VIRTIO_BLK_F_FLUSH) |
                        FEATURE(VIRTIO_BLK_F_RO));
        blk_kit_fini(&k);
}

static void saved_size(void)
{
        static const struct {
                const char *name;
                uint64_t sectors;
                int want;
        } rows[] = {
                { "the same", KIT_DISK_SECTORS, 0 },
                { "smaller", KIT_DISK_SECTORS - 1, -ESTALE },
                { "larger", KIT_DISK_SECTORS + 1, -ESTALE },
        };
        struct blk_kit k;
        uint64_t saved[8], loaded[8];
        AUTO_JSON *o = json_object_new_object();

        blk_kit_init(&k, &everything);
        const struct virtio_class *class = k.dev->class;

        CU_ASSERT_TRUE_FATAL(class->state_bytes <= sizeof(saved));
        class->capture(k.dev, saved);
        CU_ASSERT_EQUAL(class->encode(saved, o, NULL), 0);
        CU_ASSERT_EQUAL(class->decode(o, loaded, NULL), 0);
        for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
                struct virtio_device *twin = blk_kit_twin(&k, rows[i].sectors);
                struct err e = { 0 };

                EXPECT_EQUAL(rows[i].name, class->apply(twin, loaded, &e), rows[i].want);
                if (rows[i].want)
                        EXPECT_TRUE(rows[i].name, strstr(e.text, "but had 1048576 when the VM"));
                class->free(twin);
        }
        json_object_object_del(o, "bytes");
        CU_ASSERT_EQUAL(class->decode(o, loaded, NULL), -EBADMSG);
        json_put_str(o, "bytes", "many");
        CU_ASSERT_EQUAL(class->decode(o, loaded, NULL), -EBADMSG);
        blk_kit_fini(&k);
}

static const CU_TestInfo cases[] = {
        { "requests and their status", requests },
        { "ranges to discard and zero", ranges },
        { "all ranges are done, or none", all_ranges_or_none },
        { "pieces of any length", scattered },
        { "the serial number", serial_number },
        { "errors of the disk are the guest's, and are counted", errors_of_the_disk },
        { "a guest without flush has its writes on the disk", write_through },
        { "what breaks the device", breaks },
        { "configuration and features", configuration },
        { "a disk of another size than saved is refused", saved_size },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-blk", cases);
}
