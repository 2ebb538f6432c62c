/* SPDX-License-Identifier: Apache-2.0 */
/* uffd-kit.h - a memfd, a private mapping of it under userfaultfd, a thread that
 * touches one page: what each assumption needs. Failures end the program. */
#ifndef TESTS_ASSUMPTIONS_UFFD_KIT_H
#define TESTS_ASSUMPTIONS_UFFD_KIT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define KIT_PAGE 4096u
#define KIT_PAGES 16u
#define KIT_BYTES (KIT_PAGE * KIT_PAGES)

#define HOLDS(cond) kit_holds((cond), #cond, __FILE__, __LINE__)
void kit_holds(bool ok, const char *what, const char *file, int line);

/* exits with 77 and the reason where there is no full userfaultfd */
void kit_need_uffd(void);

/* of the mapping that holds the address, as /proc/self/smaps says; key ends with a colon */
long kit_smaps_kib(const char *at, const char *key);

struct kit {
        int memfd;              /* KIT_BYTES, all hole */
        int uffd;
        char *map;              /* MAP_PRIVATE of memfd, registered for missing pages */
};

void kit_open(struct kit *k);
void kit_close(struct kit *k);

/* a page full of one byte value, at offset page * KIT_PAGE of the memfd */
void kit_write_page(struct kit *k, unsigned page, uint8_t value);
/* pages of the memfd that hold memory */
unsigned kit_memfd_pages(const struct kit *k);

struct kit_touch {
        const volatile uint8_t *at;
        pthread_t thread;
        _Atomic bool done;
        uint8_t value;          /* what was read, once joined */
};

void kit_touch_start(struct kit_touch *t, const void *at);
/* the message of its fault was read: the thread sleeps */
void kit_await_fault(const struct kit *k, const void *at);
uint8_t kit_touch_join(struct kit_touch *t);
/* true: it still sleeps after a while */
bool kit_touch_sleeps(struct kit_touch *t);

#endif
