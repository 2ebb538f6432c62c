/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/ps-procs.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

pid_t procs_only_child(pid_t parent)
{
        char name[64];
        int pid[2] = { 0 };

        snprintf(name, sizeof(name), "/proc/%d/task/%d/children", (int)parent, (int)parent);

        FILE *f = fopen(name, "re");

        if (!f)
                return 0;

        int n = fscanf(f, "%d %d", &pid[0], &pid[1]);

        fclose(f);
        return n == 1 ? pid[0] : 0;
}

static unsigned count_fds(pid_t pid, const char *begin)
{
        char name[64], at[320], to[64];
        struct dirent *d;
        unsigned n = 0;

        snprintf(name, sizeof(name), "/proc/%d/fd", (int)pid);

        DIR *folder = opendir(name);

        while (folder && (d = readdir(folder))) {
                snprintf(at, sizeof(at), "%s/%s", name, d->d_name);

                ssize_t len = readlink(at, to, sizeof(to));

                n += len >= (ssize_t)strlen(begin) && !memcmp(to, begin, strlen(begin));
        }
        if (folder)
                closedir(folder);
        return n;
}

unsigned procs_fds(pid_t pid)
{
        return count_fds(pid, "");
}

unsigned procs_memfds(pid_t pid)
{
        return count_fds(pid, "/memfd:");
}

unsigned procs_cpu_ms(pid_t pid)
{
        char name[64];
        unsigned long user = 0, system = 0;

        snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);

        FILE *f = fopen(name, "re");

        if (!f)
                return 0;
        /* pid (name) state, ten more, then these; the name is ours and has no blank */
        if (fscanf(f, "%*d %*s %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                   &system) != 2)
                user = system = 0;
        fclose(f);
        return (unsigned)((user + system) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}
