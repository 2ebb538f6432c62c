/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: contrib/openapi/snapback.yaml and the servers know the same paths and methods, and
 *       vmm-api(7) names them all.
 * Method: the tables of routes against the lines of the file; of its YAML only so much is
 *         understood as it is laid out: paths by 2, methods by 4, tags by 6 blanks. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/control.h"
#include "vmm/serve/server.h"

#define FILE_BYTES_MAX (1u << 20)
#define OPERATIONS_MAX 100

struct operation {
        char path[64], method[16], tags[32];
        bool seen;
};

static struct operation operation[OPERATIONS_MAX];
static size_t noperations;
static char *manual;

static char *read_tree_file(const char *name)
{
        const char *srcdir = getenv("srcdir");
        char path[PATH_MAX];
        char *text;
        size_t bytes;

        snprintf(path, sizeof(path), "%s/%s", srcdir ? srcdir : ".", name);

        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

        return fd >= 0 && io_read_all(fd, FILE_BYTES_MAX, &text, &bytes) == 0 ? text : NULL;
}

static void take_line(const char *line, char path[64])
{
        char word[61];

        if (sscanf(line, "  /%60[^:]:", word) == 1 && line[2] == '/') {
                snprintf(path, 64, "/%s", word);
        } else if (sscanf(line, "    %15[a-z]:", word) == 1 && line[4] != ' ' &&
                   strcmp(word, "parameters") && !strncmp(line, "    ", 4)) {
                CU_ASSERT_FATAL(noperations < OPERATIONS_MAX);
                strcpy(operation[noperations].path, path);
                snprintf(operation[noperations++].method, 16, "%.15s", word);
        } else if (noperations && sscanf(line, "      tags: [%31[a-z, ]]", word) == 1) {
                snprintf(operation[noperations - 1].tags, 32, "%.31s", word);
        }
}

static void read_files(void)
{
        AUTO_FREE char *yaml = read_tree_file("contrib/openapi/snapback.yaml");
        char path[64] = "";
        bool inside = false;

        manual = read_tree_file("man/vmm-api.7");
        CU_ASSERT_FATAL(yaml && manual);
        for (char *line = strtok(yaml, "\n"); line; line = strtok(NULL, "\n")) {
                if (line[0] != ' ')
                        inside = !strcmp(line, "paths:");
                else if (inside)
                        take_line(line, path);
        }
        CU_ASSERT(noperations > 10);
}

static void look_for(const char *tag, const char *method, const char *path)
{
        char row[128];
        bool found = false;

        snprintf(row, sizeof(row), "%s %s %s", tag, method, path);
        for (size_t i = 0; i < noperations; i++) {
                struct operation *o = &operation[i];

                if (!strcasecmp(o->method, method) && !strcmp(o->path, path) &&
                    strstr(o->tags, tag))
                        found = o->seen = true;
        }
        EXPECT_TRUE(row, found);
        /* with a name the page has it as in "/vms/ Ns Ar NAME" */
        if (!strchr(path, '{'))
                snprintf(row, sizeof(row), "%s %s\n", method, path);
        else
                snprintf(row, sizeof(row), "%s /vms/ Ns Ar NAME", method);
        EXPECT_TRUE(row, strstr(manual, row) != NULL);
}

static void service(void)
{
        for (size_t i = 0; serve_route_at(i); i++)
                look_for("service", serve_route_at(i)->method, serve_route_at(i)->path);
}

static void machine(void)
{
        for (size_t i = 0; control_route_at(i); i++)
                look_for("machine", control_route_at(i)->method, control_route_at(i)->path);
}

static void nothing_else(void)
{
        for (size_t i = 0; i < noperations; i++)
                EXPECT_TRUE(operation[i].path, operation[i].seen);
        free(manual);
}

static const CU_TestInfo cases[] = {
        { "the files can be read", read_files },
        { "what the service takes is in them", service },
        { "what a machine takes is in them", machine },
        { "nothing else is", nothing_else },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("api", cases);
}
