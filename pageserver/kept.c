/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"

/* where the service looks for them */
#define FIRST_FD 3

static int grow(struct kept *k)
{
        size_t room = k->room ? 2 * k->room : 16;
        struct kept_fd *of = reallocarray(k->of, room, sizeof(*of));

        if (!of)
                return -ENOMEM;
        k->of = of;
        k->room = room;
        return 0;
}

int kept_add(struct kept *k, const char *name, int *fd)
{
        if (k->n == k->max)
                return -ENOSPC;
        if (k->n == k->room && grow(k) < 0)
                return -ENOMEM;

        char *copy = strdup(name);

        if (!copy)
                return -ENOMEM;
        k->of[k->n++] = (struct kept_fd){ .fd = fd_take(fd), .name = copy };
        return 0;
}

void kept_remove(struct kept *k, const char *name)
{
        for (size_t i = 0; i < k->n;) {
                if (strcmp(k->of[i].name, name) != 0) {
                        i++;
                        continue;
                }
                fd_close(&k->of[i].fd);
                free(k->of[i].name);
                k->of[i] = k->of[--k->n];
        }
}

void kept_fini(struct kept *k)
{
        while (k->n > 0)
                kept_remove(k, k->of[k->n - 1].name);
        free(k->of);
        *k = (struct kept){ .of = NULL };
}

/* The rest is in the child and needs no care for what it leaves behind. */

static int set_number(const char *variable, long value)
{
        char text[32];

        snprintf(text, sizeof(text), "%ld", value);
        return setenv(variable, text, 1) < 0 ? -errno : 0;
}

static int set_names(const struct kept_fd *all, size_t n)
{
        size_t bytes = 1;

        for (size_t i = 0; i < n; i++)
                bytes += strlen(all[i].name) + 1;

        char *text = calloc(1, bytes);
        char *at = text;

        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++)
                at = stpcpy(stpcpy(at, i ? ":" : ""), all[i].name);
        return setenv("LISTEN_FDNAMES", text, 1) < 0 ? -errno : 0;
}

/* First all out of the way, then each into its place. */
static int move_into_place(struct kept_fd *all, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                all[i].fd = fcntl(all[i].fd, F_DUPFD_CLOEXEC, FIRST_FD + (int)n);
                if (all[i].fd < 0)
                        return -errno;
        }
        for (size_t i = 0; i < n; i++) {
                if (dup2(all[i].fd, FIRST_FD + (int)i) < 0)
                        return -errno;
        }
        return 0;
}

int kept_exec(const struct kept *k, const struct kept_fd *first, size_t n, const char *program,
              char *const *argv)
{
        size_t total = n + k->n;
        struct kept_fd *all = calloc(total + 1, sizeof(*all));

        if (!all)
                return -ENOMEM;
        memcpy(all, first, n * sizeof(*all));
        for (size_t i = 0; i < k->n; i++)
                all[n + i] = k->of[i];

        int rc = move_into_place(all, total);

        if (rc == 0)
                rc = set_number("LISTEN_PID", getpid());
        if (rc == 0)
                rc = set_number("LISTEN_FDS", (long)total);
        if (rc == 0)
                rc = set_names(all, total);
        if (rc < 0)
                return rc;
        execv(program, argv);
        return -errno;
}
