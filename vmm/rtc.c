/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/rtc.h"

#include <errno.h>
#include <time.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json.h"
#include "vmm/hex.h"

enum {
        SECONDS = 0x00, MINUTES = 0x02, HOURS = 0x04, WEEKDAY = 0x06, DAY = 0x07, MONTH = 0x08,
        YEAR = 0x09, REG_A = 0x0a, REG_B = 0x0b, REG_C = 0x0c, REG_D = 0x0d,
};

#define A_32KHZ_1024HZ 0x26
#define A_UPDATING 0x80
#define B_24H 0x02
#define B_BINARY 0x04
#define D_BATTERY_GOOD 0x80

/* The real chip announces an update this long before it: whoever reads right
 * after seeing no announcement gets one consistent time. */
#define UPDATE_NS (244 * NS_PER_US)

void rtc_init(struct rtc *rtc)
{
        *rtc = (struct rtc){ .cmos[REG_B] = B_24H };
}

static uint8_t number(const struct rtc *rtc, int n)
{
        ASSERT(n >= 0 && n < 100);
        return (uint8_t)(rtc->cmos[REG_B] & B_BINARY ? n : n / 10 << 4 | n % 10);
}

static uint8_t read_data(const struct rtc *rtc, uint64_t wall_ns)
{
        time_t seconds = (time_t)(wall_ns / NS_PER_SEC);
        struct tm tm;

        gmtime_r(&seconds, &tm);
        switch (rtc->index) {
        case SECONDS: return number(rtc, MIN(tm.tm_sec, 59));
        case MINUTES: return number(rtc, tm.tm_min);
        case HOURS:   return number(rtc, tm.tm_hour);
        case WEEKDAY: return number(rtc, tm.tm_wday + 1);
        case DAY:     return number(rtc, tm.tm_mday);
        case MONTH:   return number(rtc, tm.tm_mon + 1);
        case YEAR:    return number(rtc, tm.tm_year % 100);
        case RTC_CENTURY: return number(rtc, (tm.tm_year + 1900) / 100);
        case REG_A:
                return A_32KHZ_1024HZ |
                       (wall_ns % NS_PER_SEC >= NS_PER_SEC - UPDATE_NS ? A_UPDATING : 0);
        case REG_C:   return 0;         /* no interrupt was ever raised */
        case REG_D:   return D_BATTERY_GOOD;
        default:      return rtc->cmos[rtc->index];
        }
}

uint8_t rtc_in(const struct rtc *rtc, unsigned port, uint64_t wall_ns)
{
        ASSERT(port <= 1 && rtc->index < RTC_BYTES);
        return port == 0 ? rtc->index : read_data(rtc, wall_ns);
}

void rtc_out(struct rtc *rtc, unsigned port, uint8_t v)
{
        ASSERT(port <= 1 && rtc->index < RTC_BYTES);
        if (port == 0)
                rtc->index = v % RTC_BYTES;     /* bit 7 masks NMIs on a PC */
        else
                rtc->cmos[rtc->index] = rtc->index == REG_B ? v | B_24H : v;
}

/* ---- saved state --------------------------------------------------------- */

#define RTC_VERSION 1

int rtc_save(const struct rtc *rtc, struct json_object **ret, struct err *e)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_u64(o, "version", RTC_VERSION);
        json_put_u64(o, "index", rtc->index);
        if (hex_put(o, "cmos", rtc->cmos, RTC_BYTES) < 0)
                return err_msg(e, ENOMEM, "no memory to save the clock");
        *ret = ptr_take(&o);
        return 0;
}

int rtc_load(struct rtc *rtc, struct json_object *o, struct err *e)
{
        struct rtc loaded = { 0 };
        uint64_t version, index;
        size_t bytes;
        int rc = json_take_u64(o, "version", RTC_VERSION, &version, e);

        if (rc == 0)
                rc = json_take_u64(o, "index", RTC_BYTES - 1, &index, e);
        if (rc == 0)
                rc = hex_take(o, "cmos", RTC_BYTES, loaded.cmos, &bytes, e);
        if (rc < 0)
                return rc;
        if (bytes != RTC_BYTES)
                return err_msg(e, EBADMSG, "JSON field 'cmos' has %zu bytes, not %d", bytes,
                               RTC_BYTES);
        loaded.index = (uint8_t)index;
        *rtc = loaded;
        return 0;
}
