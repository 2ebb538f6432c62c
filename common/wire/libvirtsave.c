/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/libvirtsave.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define MAGIC "LibvirtQemudSave"
#define MAGIC_PART "LibvirtQemudPart"
#define MAGIC_BYTES 16u
/* 1 had no padding; the same layout */
#define VERSION_MAX 2u

enum { VERSION_AT = 16, DATA_LEN_AT = 20, WAS_RUNNING_AT = 24, FORMAT_AT = 28 };

static_assert(sizeof(MAGIC) == MAGIC_BYTES + 1 && sizeof(MAGIC_PART) == MAGIC_BYTES + 1,
              "magics are of 16 bytes");
static_assert(FORMAT_AT + 4 + 4 + 14 * 4 == LIBVIRTSAVE_HEAD_BYTES, "the head is 92 bytes");

static const char *const format_names[] = {
        [LIBVIRTSAVE_RAW] = "raw",
        [LIBVIRTSAVE_GZIP] = "gzip",
        [LIBVIRTSAVE_BZIP2] = "bzip2",
        [LIBVIRTSAVE_XZ] = "xz",
        [LIBVIRTSAVE_LZOP] = "lzop",
        [LIBVIRTSAVE_ZSTD] = "zstd",
};

bool libvirtsave_is(const uint8_t *data, size_t bytes)
{
        return bytes >= MAGIC_BYTES && (!memcmp(data, MAGIC, MAGIC_BYTES) ||
                                        !memcmp(data, MAGIC_PART, MAGIC_BYTES));
}

static int check_version(uint32_t version, struct err *e)
{
        if (version >= 1 && version <= VERSION_MAX)
                return 0;
        if (__builtin_bswap32(version) >= 1 && __builtin_bswap32(version) <= VERSION_MAX)
                return err_msg(e, ENOTSUP, "libvirt wrote it on a host of the other byte order");
        return err_msg(e, ENOTSUP, "it is a saved domain of version %u; known are 1 to %u",
                       version, VERSION_MAX);
}

int libvirtsave_parse(const uint8_t *data, size_t bytes, struct libvirtsave *ret, struct err *e)
{
        if (bytes < LIBVIRTSAVE_HEAD_BYTES)
                return err_msg(e, EAGAIN, "it is too short for a saved domain of libvirt");
        if (!memcmp(data, MAGIC_PART, MAGIC_BYTES))
                return err_msg(e, EBADMSG, "libvirt did not complete it: save the domain again");
        if (memcmp(data, MAGIC, MAGIC_BYTES))
                return err_msg(e, EBADMSG, "it is not a saved domain of libvirt");

        int rc = check_version(get_le32(data + VERSION_AT), e);
        uint32_t data_bytes = get_le32(data + DATA_LEN_AT);
        uint32_t format = get_le32(data + FORMAT_AT);

        if (rc < 0)
                return rc;
        if (data_bytes == 0 || data_bytes > LIBVIRTSAVE_DATA_MAX)
                return err_msg(e, EBADMSG, "its XML takes %u bytes: it is damaged", data_bytes);
        if (format >= ARRAY_SIZE(format_names))
                return err_msg(e, ENOTSUP, "its format %u is not known: save with "
                               "save_image_format = \"raw\" in /etc/libvirt/qemu.conf", format);
        *ret = (struct libvirtsave){
                .format = (enum libvirtsave_format)format,
                .was_running = get_le32(data + WAS_RUNNING_AT) != 0,
                .stream_at = (uint64_t)LIBVIRTSAVE_HEAD_BYTES + data_bytes,
        };
        return 0;
}

const char *libvirtsave_format_name(enum libvirtsave_format format)
{
        ASSERT((size_t)format < ARRAY_SIZE(format_names));
        return format_names[format];
}
