/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: what GET /vm says, for Prometheus */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/auto.h"
#include "common/json.h"
#include "vmm/control-priv.h"
#include "vmm/vm-metrics.h"
#include "vmm/vm.h"

/* NULL: no memory */
static char *print(struct vm *vm, size_t *ret_bytes)
{
        AUTO_JSON *o = vm_describe(vm);
        AUTO_FREE char *text = NULL;
        FILE *out = open_memstream(&text, ret_bytes);

        if (!out)
                return NULL;
        vm_metrics_print(out, o);
        return fclose(out) == 0 ? ptr_take(&text) : NULL;
}

void control_metrics(struct request *r)
{
        size_t bytes = 0;
        AUTO_FREE char *text = print(r->control->vm, &bytes);
        struct evbuffer *body = evbuffer_new();

        control_add_headers(r->http, VM_METRICS_TYPE);
        if (body && text)
                evbuffer_add(body, text, bytes);
        control_before_end(r->control, r->http);
        evhttp_send_reply(r->http, body && text ? HTTP_OK : HTTP_SERVUNAVAIL, NULL, body);
        if (body)
                evbuffer_free(body);
}
