/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-compare.h"

#include <stdio.h>

#include "common/json.h"
#include "vmm/cli.h"
#include "vmm/job.h"

static void print(const char *path_a, const char *path_b, bool same, uint64_t gpa, bool json)
{
        if (!json) {
                if (same)
                        printf("'%s' and '%s' hold the same memory\n", path_a, path_b);
                else
                        printf("'%s' and '%s' differ at guest address %#llx\n", path_a, path_b,
                               (unsigned long long)gpa);
                return;
        }

        AUTO_JSON *j = json_object_new_object();

        json_put_bool(j, "same", same);
        if (!same)
                json_put_u64(j, "first_difference", gpa);
        cli_print_json(j);
}

static int compare(struct qs_image *a, const char *path_a, const char *path_b,
                   const struct qs_open_options *options, bool json, struct err *e)
{
        struct qs_open_options other = *options;
        struct qs_image *b;
        struct job job;
        uint64_t gpa;

        other.tag = NULL;
        if (qs_image_open_path(path_b, &other, &b, e) < 0)
                return COMPARE_FAILED;

        job_start(&job, "compare", json);

        int rc = job_end(&job, qs_compare(a, b, job_progress, &job, &gpa, e));
        bool same = rc == 0 && gpa == UINT64_MAX;

        qs_image_close(b);
        if (rc < 0)
                return COMPARE_FAILED;
        print(path_a, path_b, same, gpa, json);
        return same ? COMPARE_SAME : COMPARE_DIFFERENT;
}

int image_compare(const char *path_a, const char *path_b, const struct qs_open_options *options,
                  bool json, struct err *e)
{
        struct qs_image *a;

        if (qs_image_open_path(path_a, options, &a, e) < 0)
                return COMPARE_FAILED;

        int status = compare(a, path_a, path_b, options, json, e);

        qs_image_close(a);
        return status;
}
