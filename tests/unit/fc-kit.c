/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/fc-kit.h"

#include <string.h>

#include "common/bytes.h"
#include "common/check.h"
#include "common/wire/fcvmstate.h"

#define FILLER_BYTES 500

struct out {
        uint8_t *at;
};

static void put(struct out *o, uint64_t v, size_t bytes)
{
        for (size_t i = 0; i < bytes; i++)
                *o->at++ = (uint8_t)(v >> (8 * i));
}

static void put_text(struct out *o, const char *s)
{
        put(o, strlen(s), 8);
        memcpy(o->at, s, strlen(s));
        o->at += strlen(s);
}

static void put_optional_text(struct out *o, const char *s)
{
        put(o, s != NULL, 1);
        if (s)
                put_text(o, s);
}

static void put_head(struct out *o, const struct fc_kit *k)
{
        static const char *const versions[] = {
                [7] = "1.0.0", [8] = "2.0.0", [9] = "3.0.0", [10] = "4.0.0", [11] = "5.0.0",
                [12] = "6.0.0", [13] = "8.0.0", [14] = "8.0.0",
        };
        uint64_t magic = k->aarch64 ? 0x07101984aaaa0000 : 0x0710198486640000;

        put(o, magic + (k->minor < 7), 8);
        if (k->version)
                put_text(o, k->version);
        else if (k->minor < 7)
                put(o, k->minor, 2);
        else if (k->minor < ARRAY_SIZE(versions))
                put_text(o, versions[k->minor]);
        else
                put(o, 0x3a2e2e3905, 5);        /* a packed text */
}

static void put_vm_info(struct out *o, const struct fc_kit *k)
{
        put(o, k->memory_mib, 8);
        put(o, 1, 1);
        put(o, 4, 4);
        put_text(o, "/boot/vmlinux");
        put_optional_text(o, k->initrd);
        put_optional_text(o, "console=ttyS0 reboot=k panic=1");
        put(o, k->huge_pages, 4);
}

static void put_regions(struct out *o, const struct fc_kit *k)
{
        uint64_t offset = 0;

        put(o, k->n, 8);
        for (unsigned i = 0; i < k->n; i++) {
                uint64_t slots = k->at[i].plugged_in ? k->at[i].bytes >> 27 : 1;

                put(o, k->at[i].gpa, 8);
                put(o, k->at[i].bytes, 8);
                if (k->minor <= 10)
                        put(o, offset, 8);
                offset += k->at[i].bytes;
                if (k->minor < 14)
                        continue;
                put(o, k->at[i].plugged_in, 4);
                put(o, slots, 8);
                for (uint64_t s = 0; s < slots; s++)
                        put(o, s % 2 == 0, 1);
        }
}

void fc_kit_seal(uint8_t *data, size_t bytes)
{
        put_le64(data + bytes - 8, fc_crc64(data, bytes - 8));
}

size_t fc_kit_vmstate(const struct fc_kit *k, uint8_t buf[FC_KIT_BYTES_MAX])
{
        struct out o = { buf };

        ASSERT(k->n <= FC_KIT_REGIONS_MAX);
        put_head(&o, k);
        put_vm_info(&o, k);
        if (k->minor >= 12)
                put(&o, k->capabilities, 8);
        for (unsigned i = 0; k->minor >= 12 && i < k->capabilities; i++)
                put_text(&o, i % 2 ? "!69" : "170");
        put_regions(&o, k);
        memset(o.at, k->filler, FILLER_BYTES);
        o.at += FILLER_BYTES + 8;

        size_t bytes = (size_t)(o.at - buf);

        ASSERT(bytes <= FC_KIT_BYTES_MAX);
        fc_kit_seal(buf, bytes);
        return bytes;
}
