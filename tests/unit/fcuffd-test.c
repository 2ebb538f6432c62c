/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the handshake of every version of Firecracker is understood; what is not whole
 *       is waited for; every other text is refused with a sentence.
 * Method: a table of texts and what becomes of them, all prefixes of a message, the
 *         limits, and round trips through the writer. */
#include "common/wire/fcuffd.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"

#define HVA "\"base_host_virt_addr\":140050293587968"
#define ONE "[{" HVA ",\"size\":134217728,\"offset\":0"
#define SECOND(hva, size, offset) \
        "},{\"base_host_virt_addr\":" hva ",\"size\":" size ",\"offset\":" offset

/* ---- what Firecracker sends ---------------------------------------------- */

static const struct {
        const char *name;
        const char *text;
        size_t n;
        uint32_t page_bytes;
} versions[] = {
        { "v1.1 to v1.6", ONE "}]", 1, 4096 },
        { "v1.7 to v1.11", ONE ",\"page_size_kib\":4096}]", 1, 4096 },
        { "v1.7 to v1.11, huge pages", ONE ",\"page_size_kib\":2097152}]", 1, 2097152 },
        { "v1.12 to v1.16", ONE ",\"page_size\":4096,\"page_size_kib\":4096}]", 1, 4096 },
        { "v1.12 to v1.16, huge pages",
          ONE ",\"page_size\":2097152,\"page_size_kib\":2097152}]", 1, 2097152 },
        { "2.0, as announced", ONE ",\"page_size\":2097152}]", 1, 2097152 },
        { "page_size counts", ONE ",\"page_size\":4096,\"page_size_kib\":4}]", 1, 4096 },
        { "any order of keys", "[{\"offset\":0,\"page_size\":4096,\"size\":134217728," HVA "}]",
          1, 4096 },
        { "keys to come", ONE ",\"gpa_start\":{\"a\":[1,-2,3.5]},\"x\":null}]", 1, 4096 },
        { "blanks", " \n[ {" HVA ", \"size\" : 134217728, \"offset\":0 } ]\r\n\t ", 1, 4096 },
        { "two regions", ONE SECOND("140050427805696", "4096", "134217728") "}]", 2, 4096 },
        { "two that descend", ONE SECOND("4096", "8192", "134217728") "}]", 2, 4096 },
};

static void all_versions(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
                struct fc_region r[FC_REGIONS_MAX];
                struct err e = { 0 };
                size_t n = 0;

                EXPECT_EQUAL(versions[i].name, fc_hello_parse(versions[i].text,
                             strlen(versions[i].text), r, &n, &e), 0);
                EXPECT_TEXT(versions[i].name, e.text, "");
                EXPECT_EQUAL(versions[i].name, n, versions[i].n);
                if (n == 0)
                        continue;
                EXPECT_EQUAL(versions[i].name, r[0].hva, 140050293587968);
                EXPECT_EQUAL(versions[i].name, r[0].bytes, 134217728);
                EXPECT_EQUAL(versions[i].name, r[0].file_offset, 0);
                EXPECT_EQUAL(versions[i].name, r[n - 1].file_offset, n == 1 ? 0 : 134217728);
                EXPECT_EQUAL(versions[i].name, r[n - 1].page_bytes, versions[i].page_bytes);
        }
}

/* ---- what it does not ---------------------------------------------------- */

static const struct {
        const char *name;
        const char *text;
        const char *why;                /* part of the sentence */
} wrong[] = {
        { "no regions", "[]", "0 regions" },
        { "an object", "{" HVA "}", "not an array" },
        { "a number", "1", "not an array" },
        { "an object's beginning", " {", "not an array" },
        { "null", "null", "not an array" },
        { "not JSON", "[{size:1}]", "not JSON" },
        { "text behind it", ONE "}]x", "not JSON" },
        { "two messages", ONE "}][]", "not JSON" },
        { "too deep", "[[[[[[[[[[[[[[[[[[", "not JSON" },
        { "no objects", "[1]", "region 0 of the UFFD handshake: it is not a JSON object" },
        { "no address", "[{\"size\":4096,\"offset\":0}]", "'base_host_virt_addr' is missing" },
        { "no size", "[{" HVA ",\"offset\":0}]", "'size' is missing" },
        { "no offset", "[{" HVA ",\"size\":4096}]", "'offset' is missing" },
        { "a text for a number", "[{" HVA ",\"size\":\"4096\",\"offset\":0}]", "not of type int" },
        { "a fraction", "[{" HVA ",\"size\":4096.0,\"offset\":0}]", "not of type int" },
        { "negative", "[{" HVA ",\"size\":-4096,\"offset\":0}]", "negative" },
        { "an empty region", "[{" HVA ",\"size\":0,\"offset\":0}]", "empty" },
        { "half a page", "[{" HVA ",\"size\":2048,\"offset\":0}]", "whole pages" },
        { "at half a page", "[{\"base_host_virt_addr\":2048,\"size\":4096,\"offset\":0}]",
          "whole pages" },
        { "at half a huge page",
          "[{\"base_host_virt_addr\":4096,\"size\":2097152,\"offset\":0,\"page_size\":2097152}]",
          "whole pages of 2097152" },
        { "half a huge page",
          "[{\"base_host_virt_addr\":0,\"size\":4096,\"offset\":0,\"page_size_kib\":2097152}]",
          "whole pages of 2097152" },
        { "pages of 4, as the name says", ONE ",\"page_size_kib\":4}]", "of 4 bytes" },
        { "pages of none", ONE ",\"page_size\":0}]", "of 0 bytes" },
        { "pages of 1 GiB", ONE ",\"page_size\":1073741824}]", "more than 2097152" },
        { "pages of null", ONE ",\"page_size\":null,\"page_size_kib\":4096}]", "not of type" },
        { "behind user space", "[{\"base_host_virt_addr\":140737488355328,\"size\":4096,"
          "\"offset\":0}]", "beyond the end" },
        { "across the end of user space", "[{\"base_host_virt_addr\":140737488351232,"
          "\"size\":8192,\"offset\":0}]", "beyond the end" },
        { "a kernel address", "[{\"base_host_virt_addr\":18446744073709547520,\"size\":4096,"
          "\"offset\":0}]", "more than" },
        { "an address of 65 bits", "[{\"base_host_virt_addr\":18446744073709555712,"
          "\"size\":4096,\"offset\":0}]", "more than" },
        { "a size of 65 bits", "[{" HVA ",\"size\":18446744073709555712,\"offset\":0}]",
          "more than" },
        { "an offset of 65 bits", "[{" HVA ",\"size\":4096,\"offset\":18446744073709551616}]",
          "more than" },
        { "pages of 65 bits", ONE ",\"page_size\":18446744073709555712}]", "more than" },
        { "the address 2^63", "[{\"base_host_virt_addr\":9223372036854775808,\"size\":4096,"
          "\"offset\":0}]", "more than" },
        { "an offset first", "[{" HVA ",\"size\":4096,\"offset\":4096}]", "its offset is 4096" },
        { "a gap in the file", ONE SECOND("4096", "4096", "134221824") "}]",
          "region 1 of the UFFD handshake: its offset is 134221824" },
        { "an offset of 2^64 - 4096", ONE SECOND("4096", "4096", "18446744073709547520") "}]",
          "more than" },
        { "the same place twice", ONE SECOND("140050293587968", "134217728", "134217728") "}]",
          "overlaps region 0" },
        { "inside another", ONE SECOND("140050293592064", "4096", "134217728") "}]",
          "overlaps region 0" },
        { "around another", ONE SECOND("140050293583872", "134225920", "134217728") "}]",
          "overlaps region 0" },
        { "two sizes of pages", ONE SECOND("2097152", "2097152", "134217728")
          ",\"page_size\":2097152}]", "those of region 0 of 4096" },
};

static void wrong_ones(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct fc_region r[FC_REGIONS_MAX];
                struct err e = { 0 };
                size_t n = 77;

                EXPECT_EQUAL(wrong[i].name, fc_hello_parse(wrong[i].text, strlen(wrong[i].text),
                             r, &n, &e), -EBADMSG);
                EXPECT_EQUAL(wrong[i].name, n, 77);
                EXPECT_TEXT(wrong[i].name, strstr(e.text, wrong[i].why) ? "" : e.text, "");
        }
}

/* a prefix in a block of its own size, so that a sanitizer sees what lies behind */
static int parse_exact(const char *text, size_t len, size_t *ret_n)
{
        struct fc_region r[FC_REGIONS_MAX];
        AUTO_FREE char *copy = malloc(len ? len : 1);

        ASSERT(copy);
        memcpy(copy, text, len);
        return fc_hello_parse(copy, len, r, ret_n, NULL);
}

static void prefixes(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(versions); i++) {
                const char *text = versions[i].text;
                size_t whole = (size_t)(strrchr(text, ']') - text) + 1;
                size_t n = 0;

                for (size_t len = 0; len <= strlen(text); len++)
                        EXPECT_EQUAL(versions[i].name, parse_exact(text, len, &n),
                                     len < whole ? -EAGAIN : 0);
        }
        /* a NUL is not the end of a message but a byte of it */
        CU_ASSERT_EQUAL(parse_exact(ONE "}]", sizeof(ONE "}]"), &(size_t){ 0 }), -EBADMSG);
        CU_ASSERT_EQUAL(parse_exact("[\0", 2, &(size_t){ 0 }), -EBADMSG);
        CU_ASSERT_EQUAL(parse_exact("\0", 1, &(size_t){ 0 }), -EBADMSG);
}

static void length_is_limited(void)
{
        AUTO_FREE char *text = malloc(FC_HELLO_BYTES_MAX + 1);
        struct fc_region r[FC_REGIONS_MAX];
        size_t n = 0;

        ASSERT(text);
        memset(text, ' ', FC_HELLO_BYTES_MAX + 1);
        CU_ASSERT_EQUAL(fc_hello_parse(text, FC_HELLO_BYTES_MAX - 1, r, &n, NULL), -EAGAIN);
        /* there is no room to read on */
        CU_ASSERT_EQUAL(fc_hello_parse(text, FC_HELLO_BYTES_MAX, r, &n, NULL), -EBADMSG);
        memcpy(text, ONE "}]", strlen(ONE "}]"));
        CU_ASSERT_EQUAL(fc_hello_parse(text, FC_HELLO_BYTES_MAX, r, &n, NULL), 0);
        CU_ASSERT_EQUAL(fc_hello_parse(text, FC_HELLO_BYTES_MAX + 1, r, &n, NULL), -EBADMSG);
}

/* ---- round trips --------------------------------------------------------- */

/* n regions one behind the other in memory and file; the last ends at the end of all */
static void make_regions(struct fc_region *r, size_t n, uint32_t page_bytes)
{
        for (size_t i = 0; i < n; i++)
                r[i] = (struct fc_region){
                        .hva = FC_HVA_END - (n - i) * page_bytes, .bytes = page_bytes,
                        .file_offset = (uint64_t)i * page_bytes, .page_bytes = page_bytes,
                };
}

static void round_trips(void)
{
        static const size_t counts[] = { 1, 2, FC_REGIONS_MAX };

        for (enum fc_hello_form form = FC_HELLO_PLAIN; form <= FC_HELLO_BOTH; form++)
                for (size_t i = 0; i < ARRAY_SIZE(counts); i++) {
                        struct fc_region r[FC_REGIONS_MAX], back[FC_REGIONS_MAX];
                        AUTO_FREE char *text = NULL;
                        size_t len = 0, n = 0;

                        make_regions(r, counts[i], form == FC_HELLO_PLAIN ? 4096 : 2u << 20);
                        CU_ASSERT_EQUAL(fc_hello_format(r, counts[i], form, &text, &len, NULL),
                                        0);
                        CU_ASSERT_EQUAL(fc_hello_parse(text, len, back, &n, NULL), 0);
                        CU_ASSERT_EQUAL_FATAL(n, counts[i]);
                        for (size_t k = 0; k < n; k++) {
                                CU_ASSERT_EQUAL(back[k].hva, r[k].hva);
                                CU_ASSERT_EQUAL(back[k].bytes, r[k].bytes);
                                CU_ASSERT_EQUAL(back[k].file_offset, r[k].file_offset);
                                CU_ASSERT_EQUAL(back[k].page_bytes, r[k].page_bytes);
                        }
                }
}

static void as_firecracker_writes(void)
{
        static const char *const texts[] = {
                [FC_HELLO_PLAIN] = ONE "}]",
                [FC_HELLO_PAGE_SIZE_KIB] = ONE ",\"page_size_kib\":4096}]",
                [FC_HELLO_PAGE_SIZE] = ONE ",\"page_size\":4096}]",
                [FC_HELLO_BOTH] = ONE ",\"page_size\":4096,\"page_size_kib\":4096}]",
        };
        const struct fc_region r = { 140050293587968, 134217728, 0, 4096 };

        for (size_t form = 0; form < ARRAY_SIZE(texts); form++) {
                AUTO_FREE char *text = NULL;
                size_t len = 0;

                CU_ASSERT_EQUAL(fc_hello_format(&r, 1, (enum fc_hello_form)form, &text, &len,
                                                NULL), 0);
                EXPECT_TEXT("format", text, texts[form]);
                CU_ASSERT_EQUAL(len, strlen(texts[form]));
        }
}

static void regions_are_limited(void)
{
        struct fc_region r[FC_REGIONS_MAX + 1], back[FC_REGIONS_MAX];
        AUTO_FREE char *text = NULL;
        struct err e = { 0 };
        size_t len, n = 0;

        make_regions(r, ARRAY_SIZE(r), 4096);
        CU_ASSERT_EQUAL(fc_hello_format(r, ARRAY_SIZE(r), FC_HELLO_BOTH, &text, &len, NULL), 0);
        CU_ASSERT_EQUAL(fc_hello_parse(text, len, back, &n, &e), -EBADMSG);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "65 regions, not 1 to 64"));
}

static const CU_TestInfo cases[] = {
        { "every version's message is understood", all_versions },
        { "what cannot be is refused with a sentence", wrong_ones },
        { "what is not whole is waited for", prefixes },
        { "no more than 64 KiB are looked at", length_is_limited },
        { "regions survive the wire", round_trips },
        { "the writer writes what Firecracker does", as_firecracker_writes },
        { "65 regions are too many", regions_are_limited },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("fcuffd", cases);
}
