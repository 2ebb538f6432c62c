/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/adapters/qemu/named.h"

#include <errno.h>
#include <string.h>

#include "common/size.h"

int named_add(struct named_list *list, const char *text, const char *option, struct err *e)
{
        const char *equals = strrchr(text, '=');
        size_t bytes = equals ? (size_t)(equals - text) : 0;
        struct named new = { .value = 0 };

        if (bytes == 0 || bytes > NAMED_NAME_MAX || size_parse(equals + 1, &new.value) < 0)
                return err_msg(e, EINVAL, "%s needs the name of a RAM block and a number, like "
                               "pc.ram=2M, not '%s'", option, text);
        memcpy(new.name, text, bytes);
        if (named_find(list, new.name))
                return err_msg(e, EINVAL, "%s is given twice for '%s'", option, new.name);
        if (list->n == NAMED_MAX)
                return err_msg(e, EINVAL, "%s can be given %d times", option, NAMED_MAX);
        list->at[list->n++] = new;
        return 0;
}

const uint64_t *named_find(const struct named_list *list, const char *name)
{
        for (size_t i = 0; i < list->n; i++) {
                if (!strcmp(list->at[i].name, name))
                        return &list->at[i].value;
        }
        return NULL;
}
