/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the state of a QEMU machine comes out of an image as it was put in; sections that
 *       are not as snapback-image(5) says are refused, each with its name.
 * Method: a small image with all sections, then the same with one of them changed. */
#include "pageserver/adapters/qemu/state.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/suite.h"

#define PAGE 4096ull
#define DISK (16 * PAGE)

static const uint8_t head[] = "QEVM\0\0\0\3\7\0\0\0\rpc-i440fx-7.2";
static const uint8_t devices[] = "\4\0\0\0\3\5timer";
static const char vmdesc[] = "{\"page_size\":4096,\"devices\":[]}";

static void make_state(struct qemu_state *s)
{
        *s = (struct qemu_state){
                .machine = "pc-i440fx-7.2", .page_size = PAGE, .footers = true,
                .ram_id = 2, .ram_version = 4, .head_bytes = sizeof(head) - 1,
                .devices_bytes = sizeof(devices) - 1, .vmdesc_bytes = sizeof(vmdesc) - 1,
        };
        s->head = malloc(s->head_bytes);
        s->devices = malloc(s->devices_bytes);
        s->vmdesc = malloc(s->vmdesc_bytes);
        ASSERT(s->head && s->devices && s->vmdesc);
        memcpy(s->head, head, s->head_bytes);
        memcpy(s->devices, devices, s->devices_bytes);
        memcpy(s->vmdesc, vmdesc, s->vmdesc_bytes);
        s->blocks.disk_bytes = DISK;
        ASSERT(qemu_blocks_add(&s->blocks, "pc.ram", 6, 8 * PAGE, NULL) == 0);
        ASSERT(qemu_blocks_add(&s->blocks, "/rom@x", 6, PAGE, NULL) == 0);
        s->blocks.at[0].n_extents = s->blocks.at[1].n_extents = 1;
        s->blocks.at[0].extents[0] = (struct qemu_extent){ 0, 0, 8 * PAGE };
        s->blocks.at[1].extents[0] = (struct qemu_extent){ 0, 8 * PAGE, PAGE };
        ASSERT(qemu_blocks_seal(&s->blocks, PAGE, NULL) == 0);
}

struct section {
        const char *name;
        const void *data;
        size_t bytes;
};

static const void *no_ram(void *ctx, uint64_t gpa, size_t bytes, void *buf, struct qs_span *ret,
                          struct err *e)
{
        (void)ctx, (void)gpa, (void)bytes, (void)e;
        ret->kind = QS_SPAN_ZERO;
        return buf;
}

/* an image with a state, or with sections as they are, published under path */
static void make_image(const char *path, const struct qemu_state *s, const struct section *raw,
                       size_t n)
{
        struct qs_writer_options o = { .cluster_bits = 12, .threads = 1, .disk_bytes = DISK };
        struct qs_ram_range ram = { 0, DISK };
        struct qs_ram_source zeros = { .span = no_ram, .ctx = NULL };
        struct qs_writer *w;

        ASSERT(qs_writer_new(path, &o, &w, NULL) == 0);
        ASSERT(qs_writer_ram(w, &ram, 1, &zeros, NULL, NULL, NULL) == 0);
        ASSERT(!s || qemu_state_put(w, s, NULL) == 0);
        for (size_t i = 0; i < n; i++)
                ASSERT(qs_writer_section(w, raw[i].name, raw[i].data, raw[i].bytes, NULL) == 0);
        ASSERT(qs_writer_publish(w, NULL) == 0);
        qs_writer_free(w);
}

static int load(const char *path, struct qemu_state *ret, struct err *e)
{
        struct qs_image *image;
        struct qs_reader *reader;

        ASSERT(qs_image_open_path(path, NULL, &image, NULL) == 0);
        ASSERT(qs_reader_new(image, &reader, NULL) == 0);

        int rc = qemu_state_load(image, reader, ret, e);

        qs_reader_free(reader);
        qs_image_close(image);
        return rc;
}

static void round_trip(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];
        struct qemu_state s, back;

        make_state(&s);
        kit_folder(folder);
        make_image(kit_path(folder, "a", path), &s, NULL, 0);
        CU_ASSERT_EQUAL_FATAL(load(path, &back, NULL), 0);
        CU_ASSERT_STRING_EQUAL(back.machine, s.machine);
        CU_ASSERT_EQUAL(back.page_size, s.page_size);
        CU_ASSERT_TRUE(back.footers);
        CU_ASSERT_EQUAL(back.ram_id, 2);
        CU_ASSERT_EQUAL(back.ram_instance, 0);
        CU_ASSERT_EQUAL(back.ram_version, 4);
        CU_ASSERT_EQUAL(back.blocks.n, 2);
        CU_ASSERT_EQUAL(memcmp(back.blocks.at, s.blocks.at, 2 * sizeof(*s.blocks.at)), 0);
        CU_ASSERT_EQUAL(back.blocks.n_places, 2);
        CU_ASSERT_EQUAL(back.blocks.disk_bytes, DISK);
        CU_ASSERT_TRUE(back.head_bytes == s.head_bytes &&
                       !memcmp(back.head, s.head, s.head_bytes));
        CU_ASSERT_TRUE(back.devices_bytes == s.devices_bytes &&
                       !memcmp(back.devices, s.devices, s.devices_bytes));
        CU_ASSERT_STRING_EQUAL(back.vmdesc, vmdesc);
        CU_ASSERT_EQUAL(back.vmdesc_bytes, strlen(vmdesc));
        qemu_state_fini(&back);

        free(ptr_take(&s.vmdesc));
        unlink(path);
        make_image(path, &s, NULL, 0);
        CU_ASSERT_EQUAL_FATAL(load(path, &back, NULL), 0);
        CU_ASSERT_PTR_NULL(back.vmdesc);
        qemu_state_fini(&back);
        qemu_state_fini(&s);
        unlink(path);
        CU_ASSERT_TRUE(kit_gone(folder));
}

#define RAM "\"ram_section\":{\"id\":2,\"instance\":0,\"version\":4}"
#define BLOCKS "\"blocks\":[{\"name\":\"pc.ram\",\"bytes\":4096,\"page_size\":4096,\"extents\":[" \
        "{\"at\":0,\"gpa\":0,\"bytes\":4096}]}]"
#define DOC(version, machine, page, blocks) \
        "{\"version\":" version ",\"machine\":\"" machine "\",\"page_size\":" page \
        ",\"footers\":true," RAM "," blocks "}"
#define GOOD DOC("1", "pc-i440fx-7.2", "4096", BLOCKS)

static const struct {
        const char *name;
        const char *doc;
        const char *head;               /* NULL: none; without its length: the good one */
        size_t head_bytes;
        const char *devices;            /* NULL: none */
        int rc;
        const char *why;
} images[] = {
        { "right", GOOD, "", 0, "\4", 0, "" },
        { "no sections", NULL, "", 0, "\4", -ENOENT, "holds no QEMU machine" },
        { "no head", GOOD, NULL, 0, "\4", -EBADMSG, "QEMU-HEAD" },
        { "no devices", GOOD, "", 0, NULL, -EBADMSG, "QEMU-DEVICES" },
        { "empty devices", GOOD, "", 0, "", -EBADMSG, "QEMU-DEVICES" },
        { "other devices", GOOD, "", 0, "\1", -EBADMSG, "begin with a device" },
        { "other head", GOOD, "QEMU", 4, "\4", -EBADMSG, "QEMU-HEAD" },
        { "head of others", DOC("1", "pc-q35-7.2", "4096", BLOCKS), "", 0, "\4", -EBADMSG,
          "not of the machine" },
        { "head of larger pages", DOC("1", "pc-i440fx-7.2", "8192", "\"blocks\":[{\"name\":\"a\","
          "\"bytes\":8192,\"page_size\":4096,\"extents\":[{\"at\":0,\"gpa\":0,\"bytes\":8192}]}]"),
          "", 0, "\4", -EBADMSG, "not of the machine" },
        { "cut head", GOOD, (const char *)head, 20, "\4", -EBADMSG, "QEMU-HEAD" },
        { "longer head", GOOD, (const char *)head, sizeof(head), "\4", -EBADMSG, "QEMU-HEAD" },
};

static void images_are_judged(void)
{
        char folder[KIT_PATH_MAX], path[KIT_PATH_MAX];

        kit_folder(folder);
        kit_path(folder, "a", path);
        for (size_t i = 0; i < ARRAY_SIZE(images); i++) {
                struct section s[3];
                struct qemu_state back;
                struct err e = { 0 };
                size_t n = 0;
                bool good_head = images[i].head && !images[i].head_bytes;

                if (images[i].doc)
                        s[n++] = (struct section){ QEMU_SECTION_BLOCKS, images[i].doc,
                                                   strlen(images[i].doc) };
                if (images[i].head)
                        s[n++] = (struct section){ QEMU_SECTION_HEAD,
                                                   good_head ? (const void *)head : images[i].head,
                                                   good_head ? sizeof(head) - 1
                                                             : images[i].head_bytes };
                if (images[i].devices)
                        s[n++] = (struct section){ QEMU_SECTION_DEVICES, images[i].devices,
                                                   strlen(images[i].devices) };
                make_image(path, NULL, s, n);

                int rc = load(path, &back, &e);

                EXPECT_EQUAL(images[i].name, rc, images[i].rc);
                EXPECT_EQUAL(images[i].name, e.code, images[i].rc);
                EXPECT_TRUE(images[i].name, strstr(e.text, images[i].why));
                if (rc == 0)
                        qemu_state_fini(&back);
                else
                        EXPECT_TRUE(images[i].name, strstr(e.text, path));
                unlink(path);
        }
        CU_ASSERT_TRUE(kit_gone(folder));
}

static const struct {
        const char *name;
        const char *doc;
        int rc;
        const char *why;
} docs[] = {
        { "right", GOOD, 0, "" },
        { "without a name", DOC("1", "", "4096", BLOCKS), 0, "" },
        { "no JSON", "x", -EBADMSG, "not a JSON object" },
        { "newer", DOC("2", "x", "4096", BLOCKS), -ENOTSUP, "newer" },
        { "version 0", DOC("0", "x", "4096", BLOCKS), -EBADMSG, "version 0" },
        { "a name of control characters", DOC("1", "a\\u0007", "4096", BLOCKS), -EBADMSG,
          "machine's name" },
        { "pages of 0", DOC("1", "x", "0", BLOCKS), -EBADMSG, "pages of 0" },
        { "pages of 4 GiB", DOC("1", "x", "4294967296", BLOCKS), -EBADMSG, "page_size" },
        { "no blocks", DOC("1", "x", "4096", "\"blocks\":[]"), -EBADMSG, "no RAM blocks" },
        { "blocks of text", DOC("1", "x", "4096", "\"blocks\":[\"a\"]"), -EBADMSG,
          "RAM block 0 of the list" },
        { "no list", DOC("1", "x", "4096", "\"blocks\":{}"), -EBADMSG, "blocks" },
        { "an extent of text", DOC("1", "x", "4096", "\"blocks\":[{\"name\":\"a\",\"bytes\":4096,"
          "\"page_size\":4096,\"extents\":[1]}]"), -EBADMSG, "extent" },
        { "behind the end", DOC("1", "x", "4096", "\"blocks\":[{\"name\":\"a\",\"bytes\":4096,"
          "\"page_size\":4096,\"extents\":[{\"at\":0,\"gpa\":65536,\"bytes\":4096}]}]"), -EBADMSG,
          "behind the 65536 bytes" },
        { "no RAM section", "{\"version\":1,\"machine\":\"x\",\"page_size\":4096,\"footers\":true,"
          BLOCKS "}", -EBADMSG, "ram_section" },
};

static void docs_are_judged(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(docs); i++) {
                struct qemu_state s;
                struct err e = { 0 };
                int rc = qemu_state_decode(docs[i].doc, strlen(docs[i].doc), DISK, &s, &e);

                EXPECT_EQUAL(docs[i].name, rc, docs[i].rc);
                EXPECT_TRUE(docs[i].name, strstr(e.text, docs[i].why));
                EXPECT_TRUE(docs[i].name, rc == 0 || strstr(e.text, QEMU_SECTION_BLOCKS));
                if (rc == 0)
                        qemu_state_fini(&s);
        }
}

static const CU_TestInfo cases[] = {
        { "put and loaded", round_trip },
        { "images are judged", images_are_judged },
        { "QEMU-BLOCKS is judged", docs_are_judged },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("qemu-state", cases);
}
