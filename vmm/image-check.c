/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "common/auto.h"
#include "common/json.h"
#include "qcowstore/store.h"
#include "vmm/cli.h"
#include "vmm/job.h"

struct findings {
        struct json_object *list;       /* NULL: as text on standard error */
        const char *path;
        struct job job;
};

static void on_finding(void *ctx, const char *text)
{
        struct findings *f = ctx;

        if (f->list)
                json_object_array_add(f->list, json_object_new_string(text));
        else
                progress_say(&f->job.bar, "%s: %s", f->path, text);
}

static void print_check(const char *path, const struct qs_check_report *r)
{
        printf("'%s': %llu corruptions, %llu leaks, %llu clusters in use, %llu compared\n", path,
               (unsigned long long)r->corruptions, (unsigned long long)r->leaks,
               (unsigned long long)r->clusters_used, (unsigned long long)r->clusters_checked);
        if (r->changed)
                fprintf(stderr, "%s: its header was changed by another program, or is damaged; "
                        "its snapshots were compared: make it whole with 'vmm image compact'\n",
                        path);
}

static void print_json(const char *path, const struct qs_check_report *r,
                       struct json_object *findings)
{
        AUTO_JSON *j = json_object_new_object();

        json_put_str(j, "image", path);
        json_put_u64(j, "corruptions", r->corruptions);
        json_put_u64(j, "leaks", r->leaks);
        json_put_u64(j, "clusters_used", r->clusters_used);
        json_put_u64(j, "clusters_checked", r->clusters_checked);
        json_put_bool(j, "changed", r->changed);
        json_object_object_add(j, "findings", json_object_get(findings));
        cli_print_json(j);
}

int image_check(const char *path, bool contents, bool json, struct err *e)
{
        AUTO_JSON *list = json_object_new_array();
        struct findings f = { .list = json ? list : NULL, .path = path };
        struct qs_check_report report;
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0) {
                err_set(e, errno, "open '%s'", path);
                return CHECK_FAILED;
        }
        job_start(&f.job, contents ? "verify" : "check", json);
        if (job_end(&f.job, qs_check(fd, path, contents, on_finding, &f, job_progress, &f.job,
                                     &report, e)) < 0)
                return CHECK_FAILED;
        if (json)
                print_json(path, &report, list);
        else
                print_check(path, &report);
        return report.corruptions || report.changed ? CHECK_CORRUPT
               : report.leaks ? CHECK_LEAKS : CHECK_CLEAN;
}
