/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/said.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"
#include "common/utf8.h"

static const char *const names[] = {
        [STATUS_READING] = "reading", [STATUS_WRITING] = "writing", [STATUS_FAILED] = "failed",
};

const char *said_name(enum status_state state)
{
        return names[state];
}

struct json_object *said_encode(const struct said *s, const char *image)
{
        struct json_object *o = json_object_new_object();
        char mended[PATH_MAX];

        if (!o)
                return NULL;
        json_put_u64(o, "version", SAID_VERSION);
        json_put_str(o, "state", said_name(s->state));
        json_put_u64(o, "pid", s->pid);
        json_put_str(o, "image", utf8_mend(image, mended, sizeof(mended)));
        if (s->tag[0])
                json_put_str(o, "tag", utf8_mend(s->tag, mended, sizeof(mended)));
        json_put_u64(o, "bytes", s->bytes);
        if (s->state == STATUS_FAILED)
                json_put_str(o, "error", utf8_mend(s->error, mended, sizeof(mended)));
        return o;
}

/* text that may be printed, and fits; a field that is missing is "" */
static int take_text(struct json_object *o, const char *key, char *ret, size_t room,
                     struct err *e)
{
        const char *text = "";
        int rc = 0;

        if (json_object_object_get_ex(o, key, NULL))
                rc = json_take_str(o, key, &text, e);
        if (rc < 0)
                return rc;
        if (strlen(text) >= room)
                return err_msg(e, EBADMSG, "field '%s' is too long", key);
        for (const char *p = text; *p; p++) {
                if ((unsigned char)*p < ' ' || *p == 0x7f)
                        return err_msg(e, EBADMSG, "field '%s' has control characters", key);
        }
        strcpy(ret, text);
        return 0;
}

static int take_state(struct json_object *o, enum status_state *ret, struct err *e)
{
        const char *text;
        int rc = json_take_str(o, "state", &text, e);

        if (rc < 0)
                return rc;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                if (!strcmp(text, names[i])) {
                        *ret = (enum status_state)i;
                        return 0;
                }
        }
        return err_msg(e, EBADMSG, "field 'state' is none of ours");
}

static int take_all(struct json_object *o, struct said *ret, struct err *e)
{
        struct said s = { .pid = 0 };
        uint64_t version;
        int rc = json_take_u64(o, "version", UINT64_MAX, &version, e);

        if (rc == 0 && version != SAID_VERSION)
                rc = err_msg(e, EBADMSG, "its version is %llu: a newer program wrote it",
                             (unsigned long long)version);
        if (rc == 0)
                rc = take_state(o, &s.state, e);
        if (rc == 0)
                rc = json_take_u64(o, "pid", INT32_MAX, &s.pid, e);
        if (rc == 0)
                rc = json_take_u64(o, "bytes", INT64_MAX, &s.bytes, e);
        if (rc == 0)
                rc = take_text(o, "tag", s.tag, sizeof(s.tag), e);
        if (rc == 0)
                rc = take_text(o, "error", s.error, sizeof(s.error), e);
        if (rc == 0 && s.state == STATUS_FAILED && !s.error[0])
                rc = err_msg(e, EBADMSG, "it does not say why the save failed");
        if (rc == 0)
                *ret = s;
        return rc;
}

int said_parse(const char *text, size_t bytes, struct said *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        int rc;

        if (bytes > 0 && text[bytes - 1] == '\n')
                bytes--;
        rc = json_parse(text, bytes, &o, e);
        return rc < 0 ? rc : take_all(o, ret, e);
}
