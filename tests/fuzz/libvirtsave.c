/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no file makes the reader of libvirt's heads misbehave; what it takes has a stream
 *       behind its head and a format that has a name. */
#include <errno.h>

#include "common/check.h"
#include "common/wire/libvirtsave.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct libvirtsave s;
        struct err e = { 0 };
        int rc = libvirtsave_parse(data, n, &s, &e);

        ASSERT(rc == 0 || rc == -EAGAIN || rc == -EBADMSG || rc == -ENOTSUP);
        ASSERT((rc == -EAGAIN) == (n < LIBVIRTSAVE_HEAD_BYTES));
        ASSERT(rc == 0 || (e.code == rc && e.text[0]));
        if (rc < 0)
                return 0;
        ASSERT(libvirtsave_is(data, n));
        ASSERT(s.stream_at > LIBVIRTSAVE_HEAD_BYTES);
        ASSERT(s.stream_at <= LIBVIRTSAVE_HEAD_BYTES + LIBVIRTSAVE_DATA_MAX);
        ASSERT(libvirtsave_format_name(s.format)[0]);
        return 0;
}
