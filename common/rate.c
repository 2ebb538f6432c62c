/* SPDX-License-Identifier: Apache-2.0 */
#include "common/rate.h"

#include <errno.h>
#include <string.h>

#include "common/json.h"
#include "common/size.h"

int rate_parse(const char *text, uint64_t *ret, struct err *e)
{
        uint64_t rate;

        if (!strcmp(text, "on"))
                rate = RATE_UNLIMITED;
        else if (!strcmp(text, "off"))
                rate = RATE_OFF;
        else if (size_parse(text, &rate) < 0 || rate == RATE_OFF)
                return err_msg(e, EINVAL, "prefetch '%s' is neither 'on', 'off' nor a rate in "
                               "bytes a second such as 100M", text);
        *ret = rate;
        return 0;
}

int rate_order_parse(const char *text, struct rate_order *ret, struct err *e)
{
        struct rate_order order = { .what = RATE_SET };

        if (!strcmp(text, "pause"))
                order.what = RATE_PAUSE;
        else if (!strcmp(text, "resume"))
                order.what = RATE_RESUME;
        else if (rate_parse(text, &order.rate, NULL) < 0)
                return err_msg(e, EINVAL, "prefetch '%s' is neither 'on', 'off', 'pause', "
                               "'resume' nor a rate in bytes a second such as 100M", text);
        *ret = order;
        return 0;
}

int rate_order_parse_json(const char *body, size_t bytes, struct rate_order *ret, struct err *e)
{
        AUTO_JSON *o = NULL;
        struct json_object *v;
        const char *text;
        int rc = json_parse(body, bytes, &o, e);

        if (rc < 0)
                return rc;
        if (json_object_object_get_ex(o, "rate", &v) && json_object_is_type(v, json_type_int)) {
                struct rate_order order = { .what = RATE_SET };

                rc = json_take_u64(o, "rate", RATE_UNLIMITED, &order.rate, e);
                if (rc == 0)
                        *ret = order;
                return rc;
        }
        rc = json_take_str(o, "rate", &text, e);
        return rc < 0 ? rc : rate_order_parse(text, ret, e);
}

const char *rate_name(uint64_t rate)
{
        if (rate == RATE_OFF)
                return "off";
        return rate == RATE_UNLIMITED ? "on" : "limited";
}
