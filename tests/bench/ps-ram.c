/* SPDX-License-Identifier: Apache-2.0 */
/* ps-ram - a flat file dense with content as guests have it.
 *
 * Goal:   every cluster of the image costs a read, none is zeros or an equal of
 *         another, whatever RAM there is to begin with.
 * Method: the clusters of the files given that are not all zeros, one after the
 *         other, over and over; each gets its number into the first word of its
 *         first page.
 * usage:  ps-ram OUT MIB FILE...
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/err.h"
#include "common/io.h"

#define CLUSTER 16384u
#define MIB 1048576ull

static bool is_blank(const uint8_t *c)
{
        return c[0] == 0 && !memcmp(c, c + 1, CLUSTER - 1);
}

/* The file's clusters, until `end` is reached. */
static int append(int out, const char *path, uint64_t *at, uint64_t end, struct err *e)
{
        AUTO_FD in = open(path, O_RDONLY | O_CLOEXEC);
        uint8_t buf[CLUSTER];
        int rc = 0;

        if (in < 0)
                return err_set(e, errno, "open '%s'", path);
        for (uint64_t from = 0; rc == 0 && *at < end; from += CLUSTER) {
                if (io_pread_full(in, buf, CLUSTER, from) < 0)
                        return 0;               /* its end; a part of a cluster is left out */
                if (is_blank(buf))
                        continue;
                memcpy(buf, at, sizeof(*at));
                rc = io_pwrite_full(out, buf, CLUSTER, *at);
                *at += CLUSTER;
        }
        return rc < 0 ? err_set(e, -rc, "write") : 0;
}

static int make(const char *path, uint64_t bytes, char **files, int n, struct err *e)
{
        AUTO_FD out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        uint64_t at = 0;
        int rc = out < 0 ? err_set(e, errno, "create '%s'", path) : 0;

        while (rc == 0 && at < bytes) {
                uint64_t before = at;

                for (int i = 0; rc == 0 && i < n; i++)
                        rc = append(out, files[i], &at, bytes, e);
                if (rc == 0 && at == before)
                        return err_msg(e, EINVAL, "nothing but zeros to begin with");
        }
        return rc;
}

int main(int argc, char **argv)
{
        struct err e;

        if (argc < 4) {
                fprintf(stderr, "usage: ps-ram OUT MIB FILE...\n");
                return 2;
        }
        if (make(argv[1], (uint64_t)atoi(argv[2]) * MIB, argv + 3, argc - 3, &e) < 0) {
                err_print("ps-ram", &e);
                return 1;
        }
        return 0;
}
