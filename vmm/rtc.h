/* SPDX-License-Identifier: Apache-2.0 */
/* rtc.h - MC146818 clock and CMOS memory, ports 0x70 and 0x71.
 *
 * Shows the host's UTC; what the guest writes into the time is ignored, so a
 * reverted guest reads today's date. No interrupts: alarms are stored, never
 * fire. Plain memory of 128 bytes otherwise.
 * Ownership: plain struct, nothing to free. Threads: the owner's lock.
 */
#ifndef VMM_RTC_H
#define VMM_RTC_H

#include <json-c/json.h>
#include <stdint.h>

#include "common/err.h"

#define RTC_CENTURY 0x32
#define RTC_BYTES 128

struct rtc {
        uint8_t index;                  /* < RTC_BYTES */
        uint8_t cmos[RTC_BYTES];
};

void rtc_init(struct rtc *rtc);
/* port: 0 index, 1 data; wall_ns: clock_wall_ns() */
uint8_t rtc_in(const struct rtc *rtc, unsigned port, uint64_t wall_ns);
void rtc_out(struct rtc *rtc, unsigned port, uint8_t v);

int rtc_save(const struct rtc *rtc, struct json_object **ret, struct err *e);
/* rtc is written on success only */
int rtc_load(struct rtc *rtc, struct json_object *o, struct err *e);

#endif
