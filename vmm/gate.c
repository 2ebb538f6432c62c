/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/gate.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/auto.h"
#include "vmm/vm.h"

struct gate {
        struct vm *vm;
        struct event *event;
        int fd;
};

static void on_word(evutil_socket_t fd, short what, void *ctx)
{
        struct gate *g = ctx;
        struct vm *vm = g->vm;
        char word;
        ssize_t n = read(fd, &word, 1);

        (void)what;
        if (n < 0)
                return;
        gate_free(ptr_take(&vm->gate));
        if (n == 0)
                vm_stop(vm);
        else if (word == GATE_RUN)
                vm_resume(vm, NULL);
}

int gate_new(struct vm *vm, int fd, struct err *e)
{
        struct gate *g = calloc(1, sizeof(*g));

        if (!g) {
                close(fd);
                return err_msg(e, ENOMEM, "no memory for a VM that waits");
        }
        *g = (struct gate){ .vm = vm, .fd = fd };
        g->event = event_new(vm->base, fd, EV_READ | EV_PERSIST, on_word, g);
        if (!g->event || event_add(g->event, NULL) < 0) {
                gate_free(g);
                return err_msg(e, ENOMEM, "no memory for events");
        }
        vm->gate = g;
        return 0;
}

void gate_free(struct gate *g)
{
        if (!g)
                return;
        if (g->event)
                event_free(g->event);
        fd_close(&g->fd);
        free(g);
}
