/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: no status file makes its reader misbehave; what is taken may be printed, and
 *       survives being written.
 * Method: the input as the whole file. */
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "pageserver/adapters/qemu/said.h"
#include "tests/fuzz/fuzz.h"

static void judge_text(const char *text, size_t room)
{
        ASSERT(memchr(text, '\0', room));
        for (const char *p = text; *p; p++)
                ASSERT((unsigned char)*p >= ' ' && *p != 0x7f);
}

static void write_again(const struct said *s)
{
        AUTO_JSON *o = said_encode(s, "image");
        const char *text = json_object_to_json_string(o);
        struct said back;

        ASSERT(said_parse(text, strlen(text), &back, NULL) == 0);
        ASSERT(back.state == s->state && back.pid == s->pid && back.bytes == s->bytes);
        ASSERT(strlen(back.error) <= strlen(s->error));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct err e = { 0 };
        struct said s;
        int rc = said_parse((const char *)data, n, &s, &e);

        ASSERT(rc == 0 || (e.code == rc && e.text[0]));
        if (rc < 0)
                return 0;
        judge_text(s.tag, sizeof(s.tag));
        judge_text(s.error, sizeof(s.error));
        ASSERT(s.state != STATUS_FAILED || s.error[0]);
        write_again(&s);
        return 0;
}
