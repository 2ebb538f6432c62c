/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: exits reach the right device in any width and count; what leaves, leaves
 *   once; the whole saved state goes through JSON.
 * Method: kvm_run pages made by hand; no VM, so that interrupt lines go nowhere
 *   (boot-payload-test has them for real). */
#include "vmm/platform.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/counted.h"
#include "tests/unit/suite.h"
#include "vmm/uart.h"

#define COM1 0x3f8
#define DATA_OFFSET 4096

static struct kvm no_vm = { .vm_fd = -1 };

struct seen {
        char console[8192];
        size_t console_bytes;
        unsigned console_calls, power_offs, resets, rooms;
};

static void console_out(void *ctx, const uint8_t *data, size_t bytes)
{
        struct seen *s = ctx;

        ASSERT(bytes <= sizeof(s->console) - s->console_bytes);
        memcpy(s->console + s->console_bytes, data, bytes);
        s->console_bytes += bytes;
        s->console_calls++;
}

static void request(void *ctx, enum platform_request what)
{
        struct seen *s = ctx;

        if (what == PLATFORM_POWER_OFF)
                s->power_offs++;
        else
                s->resets++;
}

static void input_room(void *ctx)
{
        ((struct seen *)ctx)->rooms++;
}

static struct platform *start(struct seen *s)
{
        const struct platform_ops ops = { console_out, request, input_room, s };
        struct platform *p;

        *s = (struct seen){ 0 };
        CU_ASSERT_EQUAL_FATAL(platform_new(&no_vm, &ops, &p, NULL), 0);
        return p;
}

/* the page of kvm_run and that of its data */
union exit_page {
        struct kvm_run run;
        uint8_t bytes[2 * 4096];
};

static union exit_page *io_page(uint8_t direction, uint16_t port, uint8_t size, uint32_t count)
{
        static union exit_page page;

        page.run.exit_reason = KVM_EXIT_IO;
        page.run.io.direction = direction;
        page.run.io.port = port;
        page.run.io.size = size;
        page.run.io.count = count;
        page.run.io.data_offset = DATA_OFFSET;
        return &page;
}

static void out(struct platform *p, uint16_t port, uint8_t size, uint32_t value)
{
        union exit_page *page = io_page(KVM_EXIT_IO_OUT, port, size, 1);

        memcpy(page->bytes + DATA_OFFSET, &value, 4);
        platform_io(p, &page->run);
}

static uint32_t in(struct platform *p, uint16_t port, uint8_t size)
{
        union exit_page *page = io_page(KVM_EXIT_IO_IN, port, size, 1);
        uint32_t value = 0;

        memset(page->bytes + DATA_OFFSET, 0xcc, 4);
        platform_io(p, &page->run);
        memcpy(&value, page->bytes + DATA_OFFSET, size);
        return value;
}

static void absent_ports_read_ones(void)
{
        static const uint16_t absent[] = { 0x60, 0x2f8, 0x2ff, 0x3e8, 0x400, 0x5ff, 0x60c, 0x614,
                                           0xcf8, 0xcfc, 0xffff };
        struct seen s;
        struct platform *p = start(&s);

        for (size_t i = 0; i < ARRAY_SIZE(absent); i++) {
                CU_ASSERT_EQUAL(in(p, absent[i], 1), 0xff);
                CU_ASSERT_EQUAL(in(p, absent[i], 4) & 0xff, 0xff);
        }
        CU_ASSERT_EQUAL(in(p, 0xcf8, 4), 0xffffffff);
        for (size_t i = 0; i < ARRAY_SIZE(absent); i++)
                out(p, absent[i], 2, 0xffff);
        CU_ASSERT_EQUAL(s.power_offs + s.resets + s.console_calls, 0);
        platform_free(p);
}

static void wide_accesses_are_split(void)
{
        struct seen s;
        struct platform *p = start(&s);

        out(p, COM1 + 7, 1, 0x5a);
        CU_ASSERT_EQUAL(in(p, COM1 + 7, 2), 0xff5a);            /* 0x400 is absent */
        CU_ASSERT_EQUAL(in(p, COM1 + 6, 2), 0x5ab0);
        CU_ASSERT_EQUAL(in(p, COM1 - 1, 2) >> 8, in(p, COM1, 1));
        out(p, COM1 - 1, 2, 'y' << 8 | 'x');
        CU_ASSERT_EQUAL(s.console_bytes, 1);
        CU_ASSERT_EQUAL(s.console[0], 'y');
        CU_ASSERT_EQUAL(in(p, 0x5ff, 2) & 0xff, 0xff);
        CU_ASSERT_EQUAL(in(p, 0x604, 4), 1);
        CU_ASSERT_EQUAL(in(p, 0x608, 4) >> 24, 0);
        platform_free(p);
}

static void string_output_leaves_at_once(void)
{
        struct seen s;
        struct platform *p = start(&s);
        union exit_page *page = io_page(KVM_EXIT_IO_OUT, COM1, 1, 4096);

        for (unsigned i = 0; i < 4096; i++)
                page->bytes[DATA_OFFSET + i] = (uint8_t)('a' + i % 26);
        platform_io(p, &page->run);
        CU_ASSERT_EQUAL(s.console_calls, 1);
        CU_ASSERT_EQUAL(s.console_bytes, 4096);
        CU_ASSERT_EQUAL(memcmp(s.console, page->bytes + DATA_OFFSET, 4096), 0);
        platform_free(p);
}

static void requests(void)
{
        static const struct {
                uint16_t port;
                uint8_t size;
                uint32_t value;
                unsigned power_offs, resets;
        } t[] = {
                { 0x604, 2, 0x3400, 1, 0 }, { 0x604, 2, 0x1400, 0, 0 },
                { 0x614, 1, 1, 0, 1 },      { 0x614, 1, 2, 0, 0 },
                { 0x64, 1, 0xfe, 0, 1 },    { 0x64, 1, 0xaa, 0, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct seen s;
                struct platform *p = start(&s);

                out(p, t[i].port, t[i].size, t[i].value);
                CU_ASSERT_EQUAL(s.power_offs, t[i].power_offs);
                CU_ASSERT_EQUAL(s.resets, t[i].resets);
                platform_free(p);
        }
}

static void input_room_is_called_once(void)
{
        static const uint8_t text[UART_RX_BYTES_MAX + 1];
        struct seen s;
        struct platform *p = start(&s);

        CU_ASSERT_EQUAL(platform_input(p, text, sizeof(text)), UART_RX_BYTES_MAX);
        for (unsigned i = 0; i < UART_RX_BYTES_MAX / 2 - 1; i++)
                (void)in(p, COM1, 1);
        CU_ASSERT_EQUAL(s.rooms, 0);
        (void)in(p, COM1, 1);
        CU_ASSERT_EQUAL(s.rooms, 1);
        (void)in(p, COM1, 1);
        CU_ASSERT_EQUAL(s.rooms, 1);
        CU_ASSERT_EQUAL(platform_input(p, text, 1), 1);         /* fits: nothing is owed */
        (void)in(p, COM1, 1);
        CU_ASSERT_EQUAL(s.rooms, 1);
        platform_free(p);
}

static void mmio_reads_ones(void)
{
        struct seen s;
        struct platform *p = start(&s);
        union exit_page *page = io_page(0, 0, 0, 0);

        page->run.exit_reason = KVM_EXIT_MMIO;
        page->run.mmio.is_write = 0;
        page->run.mmio.len = 8;
        platform_mmio(p, &page->run);
        for (unsigned i = 0; i < 8; i++)
                CU_ASSERT_EQUAL(page->run.mmio.data[i], 0xff);
        platform_free(p);
}

static void state_goes_through_text(void)
{
        struct seen s;
        struct platform *p = start(&s);
        struct json_object *saved, *parsed, *again;

        out(p, COM1 + 7, 1, 0x42);
        out(p, 0x70, 1, 0x40);
        out(p, 0x71, 1, 0x99);
        out(p, 0x602, 2, 0x100);
        platform_power_button(p);
        CU_ASSERT_EQUAL(platform_input(p, (const uint8_t *)"hello", 5), 5);
        CU_ASSERT_EQUAL_FATAL(platform_save(p, &saved, NULL), 0);
        platform_free(p);

        const char *text = json_object_to_json_string(saved);

        CU_ASSERT_EQUAL_FATAL(json_parse(text, strlen(text), &parsed, NULL), 0);
        p = start(&s);
        CU_ASSERT_EQUAL_FATAL(platform_load(p, parsed, NULL), 0);
        platform_replay_lines(p);
        CU_ASSERT_EQUAL(in(p, COM1 + 7, 1), 0x42);
        CU_ASSERT_EQUAL(in(p, 0x71, 1), 0x99);
        CU_ASSERT_EQUAL(in(p, 0x600, 4), 0x01000100);
        CU_ASSERT_EQUAL(in(p, COM1, 1), 'h');

        /* a device that is wrong leaves the others alone, and is named */
        struct json_object *pm;
        struct err e;

        json_object_object_get_ex(parsed, "acpi_pm", &pm);
        json_put_u64(pm, "version", 9);
        CU_ASSERT_EQUAL(platform_load(p, parsed, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "acpi_pm"));
        CU_ASSERT_EQUAL(in(p, COM1, 1), 'e');
        json_object_object_del(parsed, "acpi_pm");
        CU_ASSERT_EQUAL(platform_load(p, parsed, &e), -EBADMSG);
        CU_ASSERT_EQUAL_FATAL(platform_save(p, &again, NULL), 0);
        json_object_put(again);
        json_object_put(parsed);
        json_object_put(saved);
        platform_free(p);
}

/* What is captured is the moment, whatever comes until it is written down. */
static void a_capture_is_a_moment(void)
{
        struct seen s;
        struct platform *p = start(&s);
        struct platform_state taken;
        struct json_object *then, *late, *now;

        out(p, COM1 + 7, 1, 0x42);
        CU_ASSERT_EQUAL(platform_input(p, (const uint8_t *)"hello", 5), 5);
        (void)counted_take();

        uint64_t before_ns = clock_now_ns();

        platform_capture(p, &taken);

        struct counted counted = counted_take();

        CU_ASSERT(taken.taken_ns >= before_ns && taken.taken_ns <= clock_now_ns());
        CU_ASSERT(counted.allocations == 0 && counted.files == 0 && counted.locks == 1);
        CU_ASSERT_EQUAL_FATAL(platform_encode(&taken, &then, NULL), 0);
        out(p, COM1 + 7, 1, 0x43);
        CU_ASSERT_EQUAL(in(p, COM1, 1), 'h');
        out(p, 0x602, 2, 0x100);
        usleep(1000);                   /* more than a tick of the PM timer */
        CU_ASSERT_EQUAL_FATAL(platform_encode(&taken, &late, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(platform_save(p, &now, NULL), 0);
        CU_ASSERT(json_object_equal(then, late) && !json_object_equal(then, now));
        platform_free(p);

        p = start(&s);
        CU_ASSERT_EQUAL_FATAL(platform_load(p, late, NULL), 0);
        CU_ASSERT_EQUAL(in(p, COM1 + 7, 1), 0x42);
        CU_ASSERT_EQUAL(in(p, COM1, 1), 'h');
        platform_free(p);
        json_object_put(then);
        json_object_put(late);
        json_object_put(now);
}

static const CU_TestInfo cases[] = {
        { "absent ports read all ones", absent_ports_read_ones },
        { "wide accesses are split", wide_accesses_are_split },
        { "string output leaves at once", string_output_leaves_at_once },
        { "power-off and reset requests", requests },
        { "input_room is called once per refusal", input_room_is_called_once },
        { "MMIO reads all ones", mmio_reads_ones },
        { "state goes through JSON text", state_goes_through_text },
        { "a capture is a moment", a_capture_is_a_moment },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("platform", cases);
}
