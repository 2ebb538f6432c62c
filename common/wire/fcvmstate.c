/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/fcvmstate.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/check.h"

#define MAGIC_X86_64 0x0710198486640000ull
#define MAGIC_AARCH64 0x07101984aaaa0000ull
/* Versionize's own version is in the low bits; the other encodings have 0 there */
#define MAGIC_MASK (~0xffffull)

#define CRC_BYTES 8u
/* "Jones", bits reversed */
#define CRC_POLYNOMIAL 0x95ac9329ac4bc9b5ull

#define MEM_MIB_MAX (FC_GPA_END >> 20)

uint64_t fc_crc64(const void *data, size_t bytes)
{
        const uint8_t *p = data;
        uint64_t table[256];
        uint64_t crc = 0;

        for (unsigned i = 0; i < ARRAY_SIZE(table); i++) {
                uint64_t c = i;

                for (int bit = 0; bit < 8; bit++)
                        c = c >> 1 ^ (c & 1 ? CRC_POLYNOMIAL : 0);
                table[i] = c;
        }
        for (size_t i = 0; i < bytes; i++)
                crc = crc >> 8 ^ table[(crc ^ p[i]) & 0xff];
        return crc;
}

/* ---- bincode --------------------------------------------------------------
 * Integers of fixed width, a bool or the head of an Option in one byte, an enum in
 * four, texts and lists behind a count of eight.
 * take*(): on short or wrong input they mark the reader as bad and return 0;
 * a bad reader stays bad, so one look at the end is enough. */

struct in {
        const uint8_t *at;
        size_t left;
        bool bad;
};

static const uint8_t *take(struct in *in, uint64_t bytes)
{
        if (in->bad || bytes > in->left) {
                in->bad = true;
                return NULL;
        }

        const uint8_t *p = in->at;

        in->at += bytes;
        in->left -= bytes;
        return p;
}

static uint64_t take_int(struct in *in, size_t bytes, uint64_t max)
{
        const uint8_t *p = take(in, bytes);
        uint64_t v = 0;

        for (size_t i = 0; p && i < bytes; i++)
                v |= (uint64_t)p[i] << (8 * i);
        if (v > max)
                in->bad = true;
        return in->bad ? 0 : v;
}

static void skip_text(struct in *in)
{
        take(in, take_int(in, 8, UINT64_MAX));
}

static void skip_optional_text(struct in *in)
{
        if (take_int(in, 1, 1))
                skip_text(in);
}

/* each item takes 8 bytes at least, so a count that lies ends soon */
static void skip_texts(struct in *in)
{
        uint64_t n = take_int(in, 8, UINT64_MAX);

        for (uint64_t i = 0; i < n && !in->bad; i++)
                skip_text(in);
}

/* ---- the state's beginning ------------------------------------------------ */

/* What a list of memory regions looks like. Snapshot version 8 had two forms, of
 * v1.13 and v1.14; see parse_regions(). */
enum form {
        FORM_OFFSET,                    /* base, size, offset in the memory file */
        FORM_PLAIN,                     /* base, size */
        FORM_SLOTS,                     /* base, size, kind, a bool for each slot */
};

#define KIND_HOTPLUGGABLE 1u

static const struct version {
        unsigned long major;
        bool has_capabilities;          /* a list of texts before the regions */
        enum form form;
        enum form other;                /* the same as form if there is no other */
        const char *writer;
} versions[] = {
        { 1, false, FORM_OFFSET, FORM_OFFSET, "v1.7" },
        { 2, false, FORM_OFFSET, FORM_OFFSET, "v1.8" },
        { 3, false, FORM_OFFSET, FORM_OFFSET, "v1.9 or v1.10.0" },
        { 4, false, FORM_OFFSET, FORM_OFFSET, "v1.10.1" },
        { 5, false, FORM_PLAIN, FORM_PLAIN, "v1.11" },
        { 6, true, FORM_PLAIN, FORM_PLAIN, "v1.12" },
        { 8, true, FORM_SLOTS, FORM_PLAIN, "v1.13 or v1.14" },
};

static const struct version *find_version(const char *text)
{
        unsigned long major = strtoul(text, NULL, 10);

        for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
                if (versions[i].major == major)
                        return &versions[i];
        return NULL;
}

struct vm_info {
        uint64_t memory_bytes;
        uint32_t page_bytes;
};

static struct vm_info take_vm_info(struct in *in)
{
        struct vm_info info = { .memory_bytes = take_int(in, 8, MEM_MIB_MAX) << 20 };

        take_int(in, 1, 1);                     /* SMT */
        take_int(in, 4, UINT32_MAX);            /* CPU template */
        skip_text(in);                          /* kernel */
        skip_optional_text(in);                 /* initrd */
        skip_optional_text(in);                 /* boot arguments */
        info.page_bytes = take_int(in, 4, 1) ? 2u << 20 : 4096;
        return info;
}

/* *ret_ram: memory that the guest had from the beginning */
static void take_extent(struct in *in, enum form form, struct fc_extent *x, uint64_t *ret_ram)
{
        uint64_t kind = 0;

        x->gpa = take_int(in, 8, FC_GPA_END);
        x->bytes = take_int(in, 8, FC_GPA_END);
        if (form == FORM_OFFSET)
                x->file_offset = take_int(in, 8, FC_GPA_END);
        if (form == FORM_SLOTS) {
                kind = take_int(in, 4, KIND_HOTPLUGGABLE);

                uint64_t slots = take_int(in, 8, in->left);

                for (uint64_t i = 0; i < slots && !in->bad; i++)
                        take_int(in, 1, 1);
        }
        *ret_ram = kind == KIND_HOTPLUGGABLE ? 0 : x->bytes;
}

static int check_offsets(const struct fc_regions *said, const struct fc_regions *is,
                         struct err *e)
{
        for (uint32_t i = 0; i < is->n; i++)
                if (said->at[i].file_offset != is->at[i].file_offset)
                        return err_msg(e, EBADMSG, "memory region %u is not behind the one "
                                       "before it in the memory file", i);
        return 0;
}

static int take_regions(struct in in, enum form form, const struct vm_info *info,
                        struct fc_regions *ret, struct err *e)
{
        struct fc_regions said = { .page_bytes = info->page_bytes };
        uint64_t sum = 0;

        said.n = (uint32_t)take_int(&in, 8, FC_REGIONS_MAX);
        for (uint32_t i = 0; i < said.n && !in.bad; i++) {
                uint64_t ram;

                take_extent(&in, form, &said.at[i], &ram);
                sum += ram;
        }
        if (in.bad)
                return err_msg(e, EBADMSG, "its list of memory regions cannot be read");

        struct fc_regions r = said;
        int rc = fc_regions_finish(&r, e);

        if (rc == 0 && form == FORM_OFFSET)
                rc = check_offsets(&said, &r, e);
        if (rc == 0 && sum != info->memory_bytes)
                rc = err_msg(e, EBADMSG, "its memory regions have %llu bytes, but the guest %llu",
                             (unsigned long long)sum, (unsigned long long)info->memory_bytes);
        if (rc == 0)
                *ret = r;
        return rc;
}

/* A list of either form of version 8 hardly ever reads as the other: kinds and slots
 * have few values, and RAM must add up. Where both are possible and differ, we say so. */
static int parse_regions(struct in in, const struct version *version, struct fc_regions *ret,
                         struct err *e)
{
        struct vm_info info = take_vm_info(&in);
        struct fc_regions other = { 0 };

        if (version->has_capabilities)
                skip_texts(&in);
        if (in.bad)
                return err_msg(e, EBADMSG, "it ends before its list of memory regions");

        if (version->other == version->form ||
            take_regions(in, version->other, &info, &other, NULL) < 0)
                return take_regions(in, version->form, &info, ret, e);
        if (take_regions(in, version->form, &info, ret, NULL) == 0 &&
            memcmp(ret, &other, sizeof(other)))
                return err_msg(e, EBADMSG, "its list of memory regions can be read in two ways");
        *ret = other;
        return 0;
}

/* ---- the file ------------------------------------------------------------- */

static bool is_version(const char *text, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (!isalnum((unsigned char)text[i]) && !strchr(".-+", text[i]))
                        return false;
        return n > 0 && isdigit((unsigned char)text[0]);
}

/* Whether what follows the magic is a text with a version, as in bincode. */
static bool take_version(struct in *in, char ret[FC_VERSION_MAX + 1])
{
        size_t n = (size_t)take_int(in, 8, FC_VERSION_MAX);
        const uint8_t *p = take(in, n);

        if (!p || memchr(p, '\0', n) || !is_version((const char *)p, n))
                return false;
        memcpy(ret, p, n);
        ret[n] = '\0';
        return true;
}

static int parse_head(const uint8_t *p, size_t bytes, struct fc_vmstate *v, struct err *e)
{
        if (bytes > FC_VMSTATE_BYTES_MAX)
                return err_msg(e, EBADMSG, "it is longer than 10 MiB");
        if (bytes < 8 + CRC_BYTES)
                return err_msg(e, EBADMSG, "it is too short for a vmstate file of Firecracker");

        uint64_t magic = get_le64(p);

        if ((magic & MAGIC_MASK) != MAGIC_X86_64 && (magic & MAGIC_MASK) != MAGIC_AARCH64)
                return err_msg(e, EBADMSG, "it is not a vmstate file of Firecracker");
        if (fc_crc64(p, bytes - CRC_BYTES) != get_le64(p + bytes - CRC_BYTES))
                return err_msg(e, EBADMSG, "it is damaged: its CRC does not match");
        v->arch = (magic & MAGIC_MASK) == MAGIC_X86_64 ? FC_ARCH_X86_64 : FC_ARCH_AARCH64;
        v->encoding = magic & ~MAGIC_MASK ? FC_VERSIONIZE : FC_BITCODE;
        return 0;
}

int fc_vmstate_parse(const void *data, size_t bytes, struct fc_vmstate *ret, struct err *e)
{
        struct fc_vmstate v = { 0 };
        int rc = parse_head(data, bytes, &v, e);

        if (rc < 0)
                return rc;

        struct in in = { .at = (const uint8_t *)data + 8, .left = bytes - 8 - CRC_BYTES };
        const struct version *version = NULL;

        if (v.encoding != FC_VERSIONIZE && take_version(&in, v.version)) {
                v.encoding = FC_BINCODE;
                version = find_version(v.version);
        }
        if (version) {
                rc = parse_regions(in, version, &v.regions, e);
                if (rc < 0)
                        return err_in(e, rc, "snapshot version %s", v.version);
                v.has_regions = true;
        }
        *ret = v;
        return 0;
}

const char *fc_vmstate_writer(const struct fc_vmstate *v)
{
        const struct version *version = find_version(v->version);

        if (v->encoding == FC_VERSIONIZE)
                return "v1.6 or earlier";
        if (v->encoding == FC_BITCODE)
                return "v1.15 or later";
        return version ? version->writer : "an unknown version";
}
