/* SPDX-License-Identifier: Apache-2.0 */
/* regions.h - a client's guest memory: which addresses, watched by which
 * userfaultfd, hold which guest-physical range.
 *
 * A cluster may lie in several regions, or partly in none (the 640 KiB hole, the
 * PCI hole): whatever goes to the client is cut into pieces of one region each.
 *
 * Threads: constant after regions_new().
 */
#ifndef PAGESERVER_REGIONS_H
#define PAGESERVER_REGIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire/psmsg.h"

struct regions;

/* The one place that judges a client's regions: aligned to its pages, not empty, below
 * the end of user space, ascending and disjoint in guest-physical order, disjoint
 * in the client, within disk_bytes rounded up to a page. -EINVAL and a sentence. */
int regions_new(const struct psmsg_attach *a, uint64_t disk_bytes, uint32_t page_bytes,
                struct regions **ret, struct err *e);
void regions_free(struct regions *r);

size_t regions_count(const struct regions *r);
/* in guest-physical order */
const struct psmsg_region *regions_at(const struct regions *r, size_t i);
uint64_t regions_bytes(const struct regions *r);

/* false: no region holds the address */
bool regions_gpa(const struct regions *r, uint64_t hva, uint64_t *ret_gpa);

struct piece {
        uint64_t gpa;
        uint64_t hva;
        uint64_t bytes;
        uint32_t uffd;
};

/* The first piece of [from_gpa, end_gpa); false when there is none. Go on with
 * from_gpa = piece.gpa + piece.bytes. */
bool regions_piece(const struct regions *r, uint64_t from_gpa, uint64_t end_gpa,
                   struct piece *ret);
/* The same in the order of the client's addresses; go on with piece.hva + piece.bytes. */
bool regions_piece_at(const struct regions *r, uint64_t from_hva, uint64_t end_hva,
                      struct piece *ret);

#endif
