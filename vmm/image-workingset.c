/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-workingset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/io.h"
#include "common/json.h"
#include "common/size.h"
#include "vmm/cli.h"

/* a line of text, at most */
#define LINE_BYTES_MAX 64u

struct set {
        struct qs_ram_range *extent;
        size_t n;
};

static void print_text(const struct set *s)
{
        for (size_t i = 0; i < s->n; i++)
                printf("%#llx %llu\n", (unsigned long long)s->extent[i].gpa,
                       (unsigned long long)s->extent[i].bytes);
}

static void print_json(const char *path, const struct qs_image_info *info, const struct set *s)
{
        AUTO_JSON *o = json_object_new_object();
        struct json_object *list = json_object_new_array();
        uint64_t bytes = 0;

        for (size_t i = 0; i < s->n; i++) {
                struct json_object *x = json_object_new_object();

                json_put_u64(x, "address", s->extent[i].gpa);
                json_put_u64(x, "bytes", s->extent[i].bytes);
                json_object_array_add(list, x);
                bytes += s->extent[i].bytes;
        }
        json_put_str(o, "image", path);
        json_put_str(o, "tag", info->tag);
        json_put_u64(o, "bytes", bytes);
        json_object_object_add(o, "extents", list);
        cli_print_json(o);
}

static int show(const char *path, struct qs_image *image, bool json, struct err *e)
{
        struct set s = { 0 };
        int rc = qs_working_set_read(image, &s.extent, &s.n, e);

        if (rc < 0)
                return rc;
        if (json)
                print_json(path, qs_image_info(image), &s);
        else
                print_text(&s);
        free(s.extent);
        return 0;
}

/* Is the image the delta's own parent? */
static int check_parent(const char *path, const struct qs_image *delta, struct err *e)
{
        struct stat image, parent;

        if (qs_image_info(delta)->layers < 2)
                return err_msg(e, EINVAL, "'%s' is no delta: save one with 'vmm save --backing %s'",
                               qs_image_name(delta, 0), path);
        if (stat(path, &image) < 0 || fstat(qs_image_fd(delta, 1), &parent) < 0)
                return err_set(e, errno, "look at '%s'", path);
        if (image.st_dev != parent.st_dev || image.st_ino != parent.st_ino)
                return err_msg(e, EINVAL, "'%s' is a delta of '%s', not of '%s'",
                               qs_image_name(delta, 0), qs_image_name(delta, 1), path);
        return 0;
}

static int learn(const char *path, const struct qs_open_options *open, const char *from,
                 struct set *s, struct err *e)
{
        const struct qs_open_options how = { .allow_parent = open->allow_parent };
        struct qs_image *delta = NULL;
        int rc = qs_image_open_path(from, &how, &delta, e);

        if (rc == 0)
                rc = check_parent(path, delta, e);
        if (rc == 0)
                rc = qs_working_set_learn(delta, &s->extent, &s->n, e);
        qs_image_close(delta);
        if (rc == 0 && s->n == 0)
                rc = err_msg(e, ENODATA, "'%s' stores nothing: its guest wrote nothing", from);
        return rc;
}

/* One line; false: it says something else. Nothing and comments leave *ret empty. */
static bool parse_line(const char *line, struct qs_ram_range *ret)
{
        char address[LINE_BYTES_MAX], bytes[LINE_BYTES_MAX], rest;
        char *end;

        *ret = (struct qs_ram_range){ 0 };
        if (line[strspn(line, " \t\r")] == '\0' || line[0] == '#')
                return true;
        if (sscanf(line, " %63s %63s %c", address, bytes, &rest) != 2)
                return false;
        errno = 0;
        ret->gpa = strtoull(address, &end, 0);
        return errno == 0 && *end == '\0' && address[0] != '-' &&
               size_parse(bytes, &ret->bytes) == 0 && ret->bytes > 0;
}

static int parse_text(const char *file, char *text, struct set *s, struct err *e)
{
        unsigned number = 1;

        for (char *line; (line = strsep(&text, "\n")); number++) {
                struct qs_ram_range *x = &s->extent[s->n];

                if (!parse_line(line, x))
                        return err_msg(e, EINVAL, "'%s', line %u: not an address and a length, as "
                                       "'vmm image workingset' prints them", file, number);
                if (x->bytes && ++s->n > QS_WORKING_SET_MAX)
                        return err_msg(e, E2BIG, "'%s' has more than %u extents", file,
                                       QS_WORKING_SET_MAX);
        }
        if (s->n == 0)
                return err_msg(e, ENODATA, "'%s' holds no extent: to take a working set out, use "
                               "--clear", file);
        return 0;
}

static int read_text(const char *file, struct set *s, struct err *e)
{
        AUTO_FD fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        AUTO_FREE char *text = NULL;
        size_t bytes;

        if (fd < 0)
                return err_set(e, errno, "open '%s'", file);

        int rc = io_read_all(fd, (size_t)QS_WORKING_SET_MAX * LINE_BYTES_MAX, &text, &bytes);

        if (rc < 0)
                return err_set(e, -rc, "read '%s'", file);
        s->extent = calloc(QS_WORKING_SET_MAX + 2ul, sizeof(*s->extent));
        return s->extent ? parse_text(file, text, s, e) : err_set(e, ENOMEM, "read '%s'", file);
}

static int change_it(const char *path, const struct qs_open_options *open,
                     const struct workingset_change *change, struct qs_image *image,
                     struct err *e)
{
        struct set s = { 0 };
        int rc = 0;

        if (change->from)
                rc = learn(path, open, change->from, &s, e);
        else if (change->from_file)
                rc = read_text(change->from_file, &s, e);
        if (rc == 0)
                rc = qs_working_set_put(path, qs_image_info(image)->tag, image, s.extent, s.n, e);
        free(s.extent);
        return rc;
}

int image_workingset(const char *path, const struct qs_open_options *open,
                     const struct workingset_change *change, bool json, struct err *e)
{
        unsigned changes = change->clear + !!change->from + !!change->from_file;
        struct qs_image *image = NULL;

        if (changes > 1 || (changes && json)) {
                err_msg(e, EINVAL, "--clear, --from, --from-file and --json exclude each other");
                return CLI_FAILED;
        }

        int rc = qs_image_open_path(path, open, &image, e);

        if (rc == 0)
                rc = changes ? change_it(path, open, change, image, e) : show(path, image, json, e);
        qs_image_close(image);
        return rc < 0 ? CLI_FAILED : 0;
}
