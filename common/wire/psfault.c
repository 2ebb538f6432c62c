/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/psfault.h"

#include <errno.h>

#include "common/bytes.h"
#include "common/check.h"

size_t psfault_encode(const uint64_t *hva, size_t n, uint8_t buf[PSFAULT_BYTES_MAX])
{
        ASSERT(n >= 1 && n <= PSFAULT_MAX);
        for (size_t i = 0; i < n; i++)
                put_le64(buf + i * 8, hva[i]);
        return n * 8;
}

int psfault_decode(const void *buf, size_t bytes, uint64_t ret_hva[PSFAULT_MAX])
{
        const uint8_t *at = buf;

        if (bytes == 0 || bytes > PSFAULT_BYTES_MAX || bytes % 8 != 0)
                return -EBADMSG;
        for (size_t i = 0; i < bytes / 8; i++)
                ret_hva[i] = get_le64(at + i * 8);
        return (int)(bytes / 8);
}
