/* SPDX-License-Identifier: Apache-2.0 */
/* ps-kit.h - image caches over the fake store, for unit tests. */
#ifndef TESTS_UNIT_PS_KIT_H
#define TESTS_UNIT_PS_KIT_H

#include "pageserver/cache.h"
#include "tests/stress/fake-store.h"

#define KIT_UID 7
#define KIT_BYTES (4u << 20)
#define KIT_CLUSTER_BITS 14

/* an image file; seed tells it from others */
int kit_image(uint64_t seed);

/* cache_get() and cache_rejoin() for its one file */
int kit_get(struct cache_list *list, int image_fd, struct cache **ret);
int kit_rejoin(struct cache_list *list, int image_fd, uid_t uid, int map_fd, struct cache **ret);

/* the first n clusters: their bytes, and the marks in the filled map */
void kit_fill(struct cache *c, unsigned n);

/* exits with 77 where this host's memfds cannot be caches */
void kit_need_caches(void);

#endif
