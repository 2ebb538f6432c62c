/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the guest reads the host's UTC in the chip's encoding; CMOS is memory.
 * Method: fixed instants against known dates. */
#include "vmm/rtc.h"

#include <errno.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "tests/unit/suite.h"

static uint8_t at(struct rtc *rtc, uint8_t index, uint64_t seconds)
{
        rtc_out(rtc, 0, index);
        return rtc_in(rtc, 1, seconds * NS_PER_SEC);
}

static void dates(void)
{
        static const struct {
                uint64_t seconds;
                uint8_t want[10];       /* registers 0, 2, 4, 6, 7, 8, 9, 0x32 */
        } t[] = {
                { 0, { 0x00, 0x00, 0x00, 0x05, 0x01, 0x01, 0x70, 0x19 } },
                { 951827696, { 0x56, 0x34, 0x12, 0x03, 0x29, 0x02, 0x00, 0x20 } },
                { 4102444799, { 0x59, 0x59, 0x23, 0x05, 0x31, 0x12, 0x99, 0x20 } },
        };
        static const uint8_t index[] = { 0, 2, 4, 6, 7, 8, 9, RTC_CENTURY };

        for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
                struct rtc rtc;

                rtc_init(&rtc);
                for (size_t k = 0; k < ARRAY_SIZE(index); k++)
                        CU_ASSERT_EQUAL(at(&rtc, index[k], t[i].seconds), t[i].want[k]);
        }
}

static void control_registers(void)
{
        struct rtc rtc;

        rtc_init(&rtc);
        CU_ASSERT_EQUAL(at(&rtc, 0x0a, 5), 0x26);
        CU_ASSERT_EQUAL(at(&rtc, 0x0b, 5), 0x02);
        CU_ASSERT_EQUAL(at(&rtc, 0x0c, 5), 0x00);
        CU_ASSERT_EQUAL(at(&rtc, 0x0d, 5), 0x80);
        /* an update is announced 244 us before it */
        rtc_out(&rtc, 0, 0x0a);
        CU_ASSERT_EQUAL(rtc_in(&rtc, 1, 6 * NS_PER_SEC - 300 * NS_PER_US), 0x26);
        CU_ASSERT_EQUAL(rtc_in(&rtc, 1, 6 * NS_PER_SEC - 200 * NS_PER_US), 0xa6);
        /* binary mode is the driver's choice, 12-hour mode is not */
        rtc_out(&rtc, 0, 0x0b);
        rtc_out(&rtc, 1, 0x04);
        CU_ASSERT_EQUAL(rtc_in(&rtc, 1, 0), 0x06);
        CU_ASSERT_EQUAL(at(&rtc, 4, 23 * 3600), 23);
}

static void memory_and_saved_state(void)
{
        struct rtc rtc, back;
        struct json_object *o;

        rtc_init(&rtc);
        for (unsigned i = 0x0e; i < RTC_BYTES; i++) {
                rtc_out(&rtc, 0, (uint8_t)(0x80 | i));  /* bit 7: NMI mask */
                rtc_out(&rtc, 1, (uint8_t)(i * 3));
        }
        CU_ASSERT_EQUAL(rtc_in(&rtc, 0, 0), 0x7f);
        CU_ASSERT_EQUAL_FATAL(rtc_save(&rtc, &o, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(rtc_load(&back, o, NULL), 0);
        CU_ASSERT_EQUAL(rtc_in(&back, 0, 0), 0x7f);
        for (unsigned i = 0x0e; i < RTC_BYTES; i++) {
                if (i != RTC_CENTURY)
                        CU_ASSERT_EQUAL(at(&back, (uint8_t)i, 0), (uint8_t)(i * 3));
        }
        json_put_u64(o, "index", 128);
        CU_ASSERT_EQUAL(rtc_load(&back, o, NULL), -EBADMSG);
        json_put_u64(o, "index", 127);
        CU_ASSERT_EQUAL(rtc_load(&back, o, NULL), 0);
        json_put_str(o, "cmos", "00");
        CU_ASSERT_EQUAL(rtc_load(&back, o, NULL), -EBADMSG);
        json_object_put(o);
}

static const CU_TestInfo cases[] = {
        { "dates in BCD", dates },
        { "control registers", control_registers },
        { "CMOS is memory; state survives", memory_and_saved_state },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("rtc", cases);
}
