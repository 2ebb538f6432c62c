/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/serve/expect.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/json.h"

/* What tells one from another, in the order of the text. All else is for each VM to say. */
static const char *const telling[] = { "snapshot", "tag", "postcopy", "prefetch", "lane" };
/* Whoever asks for these asks for what is not got ready. */
static const char *const special[] = { "pageserver", "allow_parent" };

static bool is_true(struct json_object *o, const char *key)
{
        bool value = false;

        return json_take_bool(o, key, &value, NULL) == 0 && value;
}

static bool can_be_ready(struct json_object *o)
{
        for (size_t i = 0; i < ARRAY_SIZE(special); i++) {
                if (json_object_object_get_ex(o, special[i], NULL))
                        return false;
        }
        return json_object_object_get_ex(o, "snapshot", NULL) && is_true(o, "postcopy") &&
               !is_true(o, "hugepages");
}

char *expect_of(struct json_object *request)
{
        AUTO_JSON *o = json_object_new_object();
        struct json_object *value;

        if (!can_be_ready(request))
                return NULL;
        for (size_t i = 0; i < ARRAY_SIZE(telling); i++) {
                if (json_object_object_get_ex(request, telling[i], &value))
                        json_object_object_add(o, telling[i], json_object_get(value));
        }
        return strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
}

char *expect_image(const char *path)
{
        AUTO_JSON *o = json_object_new_object();

        json_put_str(o, "snapshot", path);
        json_put_bool(o, "postcopy", true);
        return expect_of(o);
}

char *expect_path(const char *expected)
{
        AUTO_JSON *o = NULL;
        const char *path;

        if (json_parse(expected, strlen(expected), &o, NULL) < 0 ||
            json_take_str(o, "snapshot", &path, NULL) < 0)
                return NULL;
        return strdup(path);
}
