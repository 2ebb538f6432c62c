/* SPDX-License-Identifier: Apache-2.0 */
/* ram.h - guest RAM: where it lies in guest-physical space and in our own.
 *
 * Low RAM [0, min(memory, 3 GiB)), the rest from 4 GiB on; between them the
 * PCI hole. RAM file offset = image offset = guest-physical address.
 * ram_at() is the one checked door to guest memory. Code that runs on the
 * event loop or the pager's thread never goes through it while pages may be
 * missing (it would wait for the page server).
 */
#ifndef VMM_RAM_H
#define VMM_RAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define RAM_LOW_END_GPA 0xc0000000ull
#define RAM_HIGH_GPA 0x100000000ull
#define RAM_SLOTS_MAX 2
#define RAM_HUGE_BYTES (2ull << 20)
#define RAM_BYTES_MIN (64ull << 20)
#define RAM_BYTES_MAX (1ull << 40)

struct ram_slot {
        uint64_t gpa;
        uint64_t bytes;
        uint8_t *hva;                   /* NULL until mapped */
};

struct ram {
        uint64_t bytes;
        bool hugetlb;                   /* mapped as RAM_HUGETLB */
        bool of_file;                   /* mapped from the image cache, or a clone's memfd */
        unsigned nslots;
        struct ram_slot slots[RAM_SLOTS_MAX];
};

/* Refuses more memory than the host has, RAM and swap together. */
int ram_check_host(uint64_t bytes, struct err *e);
/* Lays out, maps nothing. bytes: 2 MiB aligned, RAM_BYTES_MIN..MAX. */
int ram_init(struct ram *ram, uint64_t bytes, struct err *e);
/* End of guest-physical RAM = size of the image's disk. */
uint64_t ram_end_gpa(const struct ram *ram);
/* Address space only: where RAM will be mapped, so that KVM can be told at once. */
int ram_reserve(struct ram *ram, struct err *e);

/* THP: huge where the kernel can. HUGETLB: 2 MiB pages out of the host's pool, all of
 * them set aside here and now, so that no touch of one fails later. */
enum ram_pages { RAM_SMALL, RAM_THP, RAM_HUGETLB };

/* Anonymous memory; prot_none for ranges that are registered first (INV-HOLE).
 * 2 MiB aligned; MADV_DONTFORK, not in core dumps. */
int ram_map_anonymous(struct ram *ram, bool prot_none, enum ram_pages pages, struct err *e);
/* MAP_PRIVATE of the image cache, or of a clone's memfd, at offset = gpa, PROT_NONE. */
int ram_map_cache(struct ram *ram, int cache_fd, struct err *e);
/* PROT_NONE -> read and write, once all ranges are registered. */
int ram_unlock(struct ram *ram, struct err *e);
void ram_unmap(struct ram *ram);
/* What is mapped, and registered with userfaultfds, goes; the place stays reserved, and with
 * it what KVM was told. */
int ram_empty(struct ram *ram, struct err *e);

/* NULL when [gpa, gpa+bytes) is not wholly inside one slot of mapped RAM. */
void *ram_at(const struct ram *ram, uint64_t gpa, uint64_t bytes);

#endif
