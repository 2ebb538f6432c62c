/* SPDX-License-Identifier: Apache-2.0 */
#include "common/wire/fcuffd.h"

#include <errno.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"

#define SMALL_PAGE_BYTES 4096u
#define HUGE_PAGE_BYTES (2u << 20)

static_assert(FC_HVA_END <= UINT64_MAX / FC_REGIONS_MAX, "the sum of all regions fits 64 bits");

/* ---- JSON text -> array -------------------------------------------------- */

/* JSON that is no array need not come to its end to be refused. */
static bool may_be_array(const char *text, size_t len)
{
        while (len > 0 && strchr(" \t\r\n", *text) && *text) {
                text++;
                len--;
        }
        return len == 0 || *text == '[';
}

/* The text is parsed from its beginning at each call: a message arrives in one piece
 * but for senders that are slow on purpose, and those have a deadline. */
static int parse_array(const char *text, size_t len, struct json_object **ret, struct err *e)
{
        if (!may_be_array(text, len))
                return err_msg(e, EBADMSG, "the UFFD handshake is not an array of regions");

        struct json_tokener *tok = json_tokener_new_ex(JSON_DEPTH_MAX);

        if (!tok)
                return err_msg(e, ENOMEM, "no memory to parse the UFFD handshake");
        json_tokener_set_flags(tok, JSON_TOKENER_STRICT);

        AUTO_JSON *o = json_tokener_parse_ex(tok, text, (int)len);
        enum json_tokener_error why = json_tokener_get_error(tok);
        size_t end = json_tokener_get_parse_end(tok);

        json_tokener_free(tok);
        if (why == json_tokener_continue)
                return err_msg(e, EAGAIN, "the UFFD handshake is not complete after %zu bytes",
                               len);
        if (why != json_tokener_success)
                return err_msg(e, EBADMSG, "the UFFD handshake is not JSON: %s",
                               json_tokener_error_desc(why));
        if (end != len)
                return err_msg(e, EBADMSG, "the UFFD handshake goes on behind its end");
        ASSERT(json_object_is_type(o, json_type_array));
        *ret = json_object_get(o);
        return 0;
}

/* ---- array -> regions ---------------------------------------------------- */

static int take_page_bytes(struct json_object *o, uint32_t *ret, struct err *e)
{
        static const char *const keys[] = { "page_size", "page_size_kib" };
        uint64_t bytes = SMALL_PAGE_BYTES;

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                if (!json_object_object_get_ex(o, keys[i], NULL))
                        continue;

                int rc = json_take_u64(o, keys[i], HUGE_PAGE_BYTES, &bytes, e);

                if (rc < 0)
                        return rc;
                break;
        }
        if (bytes != SMALL_PAGE_BYTES && bytes != HUGE_PAGE_BYTES)
                return err_msg(e, EBADMSG, "its pages are of %llu bytes, not 4096 or 2097152",
                               (unsigned long long)bytes);
        *ret = (uint32_t)bytes;
        return 0;
}

/* json-c clamps a number of more than 64 bits; every limit here is far below that. The
 * regions do not overlap, so the sum of their sizes has the limit of addresses. */
static int take_region(struct json_object *o, struct fc_region *ret, struct err *e)
{
        if (!json_object_is_type(o, json_type_object))
                return err_msg(e, EBADMSG, "it is not a JSON object");

        int rc = json_take_u64(o, "base_host_virt_addr", FC_HVA_END, &ret->hva, e);

        if (rc == 0)
                rc = json_take_u64(o, "size", FC_HVA_END, &ret->bytes, e);
        if (rc == 0)
                rc = json_take_u64(o, "offset", FC_HVA_END, &ret->file_offset, e);
        return rc < 0 ? rc : take_page_bytes(o, &ret->page_bytes, e);
}

/* what one region must be, whatever the others are */
static int check_alone(const struct fc_region *r, struct err *e)
{
        if (r->bytes == 0)
                return err_msg(e, EBADMSG, "it is empty");
        if (r->hva % r->page_bytes || r->bytes % r->page_bytes)
                return err_msg(e, EBADMSG, "it is not of whole pages of %u bytes",
                               r->page_bytes);
        if (r->bytes > FC_HVA_END - r->hva)
                return err_msg(e, EBADMSG, "it reaches beyond the end of user space");
        return 0;
}

static int check_among(const struct fc_region *all, size_t i, struct err *e)
{
        const struct fc_region *r = &all[i];
        uint64_t sum = 0;

        for (size_t k = 0; k < i; k++) {
                if (r->hva < all[k].hva + all[k].bytes && all[k].hva < r->hva + r->bytes)
                        return err_msg(e, EBADMSG, "it overlaps region %zu", k);
                sum += all[k].bytes;
        }
        if (r->file_offset != sum)
                return err_msg(e, EBADMSG, "its offset is %llu, but those before it end at %llu",
                               (unsigned long long)r->file_offset, (unsigned long long)sum);
        if (r->page_bytes != all[0].page_bytes)
                return err_msg(e, EBADMSG, "its pages are of %u bytes, those of region 0 of %u",
                               r->page_bytes, all[0].page_bytes);
        return 0;
}

static int take_regions(struct json_object *array, struct fc_region *ret, size_t *ret_n,
                        struct err *e)
{
        size_t n = json_object_array_length(array);

        if (n == 0 || n > FC_REGIONS_MAX)
                return err_msg(e, EBADMSG, "the UFFD handshake has %zu regions, not 1 to %u", n,
                               FC_REGIONS_MAX);
        for (size_t i = 0; i < n; i++) {
                int rc = take_region(json_object_array_get_idx(array, i), &ret[i], e);

                if (rc == 0)
                        rc = check_alone(&ret[i], e);
                if (rc == 0)
                        rc = check_among(ret, i, e);
                if (rc < 0)
                        return err_in(e, rc, "region %zu of the UFFD handshake", i);
        }
        *ret_n = n;
        return 0;
}

int fc_hello_parse(const char *text, size_t len, struct fc_region ret[FC_REGIONS_MAX],
                   size_t *ret_n, struct err *e)
{
        struct fc_region regions[FC_REGIONS_MAX];
        AUTO_JSON *array = NULL;
        size_t n = 0;

        if (len > FC_HELLO_BYTES_MAX)
                return err_msg(e, EBADMSG, "the UFFD handshake is longer than %u bytes",
                               FC_HELLO_BYTES_MAX);

        int rc = parse_array(text, len, &array, e);

        if (rc == -EAGAIN && len == FC_HELLO_BYTES_MAX)
                return err_msg(e, EBADMSG, "the UFFD handshake has no end within %u bytes",
                               FC_HELLO_BYTES_MAX);
        if (rc == 0)
                rc = take_regions(array, regions, &n, e);
        if (rc < 0)
                return rc;
        memcpy(ret, regions, n * sizeof(*ret));
        *ret_n = n;
        return 0;
}

/* ---- regions -> JSON text ------------------------------------------------ */

static struct json_object *region_json(const struct fc_region *r, enum fc_hello_form form)
{
        struct json_object *o = json_object_new_object();

        json_put_u64(o, "base_host_virt_addr", r->hva);
        json_put_u64(o, "size", r->bytes);
        json_put_u64(o, "offset", r->file_offset);
        if (form == FC_HELLO_PAGE_SIZE || form == FC_HELLO_BOTH)
                json_put_u64(o, "page_size", r->page_bytes);
        if (form == FC_HELLO_PAGE_SIZE_KIB || form == FC_HELLO_BOTH)
                json_put_u64(o, "page_size_kib", r->page_bytes);
        return o;
}

int fc_hello_format(const struct fc_region *regions, size_t n, enum fc_hello_form form,
                    char **ret_text, size_t *ret_len, struct err *e)
{
        AUTO_JSON *array = json_object_new_array();

        for (size_t i = 0; i < n; i++)
                json_object_array_add(array, region_json(&regions[i], form));

        size_t len;
        const char *json = json_object_to_json_string_length(array, JSON_C_TO_STRING_PLAIN, &len);
        char *text = json ? strdup(json) : NULL;

        if (!text)
                return err_msg(e, ENOMEM, "no memory for a UFFD handshake");
        *ret_text = text;
        *ret_len = len;
        return 0;
}
