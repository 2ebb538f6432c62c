/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>

#include "qcowstore/image-priv.h"

void qs_read_soon(struct qs_reader *reader, uint64_t gpa, uint64_t bytes)
{
        struct qs_image *m = image_of_reader(reader);
        uint64_t end = gpa + MIN(bytes, m->disk_bytes - MIN(gpa, m->disk_bytes));
        struct extent x;

        for (uint64_t at = gpa; at < end; at += x.bytes) {
                if (image_extent(m, at, end - at, &x, NULL) < 0)
                        return;
                if (x.kind == L2_RAW)
                        posix_fadvise(x.layer->fd, (off_t)x.offset, (off_t)x.bytes,
                                      POSIX_FADV_WILLNEED);
                else if (x.kind == L2_PACKED)
                        posix_fadvise(x.layer->fd, (off_t)x.offset, (off_t)x.stream_bytes,
                                      POSIX_FADV_WILLNEED);
        }
}
