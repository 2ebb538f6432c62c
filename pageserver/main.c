/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "pageserver/isolate.h"
#include "pageserver/options.h"
#include "pageserver/server.h"
#include "pageserver/supervise.h"

#define EXIT_USAGE 2
/* by which the heap grows */
#define HEAP_STEP_BYTES (1 << 20)

/* What workers allocate is tables of images, each once and for good. A heap for each thread
 * would grow by single tables, with a system call and the lock of the memory map for each. */
static void have_one_heap(void)
{
#ifdef M_ARENA_MAX
        mallopt(M_ARENA_MAX, 1);
        mallopt(M_TOP_PAD, HEAP_STEP_BYTES);
        mallopt(M_TRIM_THRESHOLD, 4 * HEAP_STEP_BYTES);
#endif
}

static int serve(const struct server_options *o)
{
        struct err e;

        have_one_heap();

        int rc = isolate_process(&o->account, &e);

        if (rc == 0) {
                isolate_bounds();
                rc = server_run(o, &e);
        }
        if (rc < 0)
                err_print("pageserver", &e);
        return rc < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* the option as getopt takes it, in full or the beginning of it */
static bool is_supervise(const char *arg)
{
        return !strncmp(arg, "--su", 4) && !strncmp("--supervise", arg, strlen(arg));
}

/* The child is this program with the same words but one. The file is named now: after an
 * upgrade /proc/self/exe is still the old one. The supervisor has the caches too, so it
 * is as closed to others as the server is (INV-READONLY). */
static int supervise(const struct server_options *o, int argc, char **argv)
{
        char program[PATH_MAX];
        AUTO_FREE char **words = calloc((size_t)argc + 1, sizeof(*words));
        ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
        struct err e;
        int n = 0;

        for (int i = 0; words && i < argc; i++) {
                if (!is_supervise(argv[i]))
                        words[n++] = argv[i];
        }

        const struct supervise_options s = {
                .socket_path = o->socket_path, .program = program, .argv = words,
                .settled_ms = SUPERVISE_SETTLED_MS,
        };
        int rc;

        if (length < 0 || !words) {
                rc = err_set(&e, errno, "cannot tell how this program was called");
        } else {
                program[length] = '\0';
                rc = isolate_process(&o->account, &e);
                if (rc == 0)
                        rc = supervise_run(&s, &e);
        }
        if (rc < 0)
                err_print("pageserver", &e);
        return rc < 0 ? EXIT_FAILURE : rc;
}

int main(int argc, char **argv)
{
        struct server_options o;
        struct err e;

        switch (options_take(argc, argv, &o, &e)) {
        case OPTIONS_SERVE:
                signal(SIGPIPE, SIG_IGN);       /* of stderr; sockets do without */
                return o.supervise ? supervise(&o, argc, argv) : serve(&o);
        case OPTIONS_ANSWERED:
                return EXIT_SUCCESS;
        case OPTIONS_WRONG:
                break;
        }
        err_print("pageserver", &e);
        return EXIT_USAGE;
}
