/* SPDX-License-Identifier: Apache-2.0 */
/* fcimage.h - an image that Firecracker's guests are restored from: opened once, with
 * what says where a piece of their memory lies in it.
 *
 * A handshake tells sizes and file offsets only (common/wire/fcuffd.h). The section
 * FC-REGIONS knows the guest-physical addresses. An image without it is a memory file as
 * it was, or RAM at guest-physical offsets as a version of Firecracker on x86-64 places
 * it; which of them is seen by the handshake, for only one of them ends where the image
 * ends.
 *
 * Ownership: its door's; sessions borrow the source, so that all restores of an image
 *            share its tables and descriptors.
 * Threads:   main thread; constant after fcimage_open() but for the source.
 */
#ifndef PAGESERVER_FCIMAGE_H
#define PAGESERVER_FCIMAGE_H

#include "common/err.h"
#include "common/wire/fcuffd.h"
#include "common/wire/psmsg.h"
#include "pageserver/session.h"
#include "pageserver/source.h"

struct fcimage;

/* By name, parents in the same folder. Waits for a file system that does not answer, but not
 * longer than a client would. */
int fcimage_open(struct session_host *host, const char *path, struct fcimage **ret,
                 struct err *e);
void fcimage_close(struct fcimage *im, struct session_host *host);
const char *fcimage_path(const struct fcimage *im);
struct source *fcimage_source(const struct fcimage *im);

/* what its guests want first, as it was known when it was opened; the caller frees *ret,
 * NULL = nothing. 0 or -ENOMEM. */
int fcimage_working_set(const struct fcimage *im, struct qs_ram_range **ret, size_t *ret_n);

/* The regions of a handshake at their guest-physical addresses, all of one
 * userfaultfd. -EINVAL when they are not those of a guest of this image. */
int fcimage_place(const struct fcimage *im, const struct fc_region *region, size_t n,
                  struct psmsg_attach *ret, struct err *e);

#endif
