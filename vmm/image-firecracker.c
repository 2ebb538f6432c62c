/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/image-firecracker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "common/size.h"
#include "common/wire/fcregions.h"
#include "common/wire/fcvmstate.h"
#include "vmm/cli.h"
#include "vmm/image-write.h"
#include "vmm/job.h"

static_assert(FC_GPA_END == QS_DISK_BYTES_MAX, "the store holds all that has a table");

/* the parts of the memory file, as the store has them */
static void make_parts(const struct fc_regions *r, struct qs_flat_part parts[FC_REGIONS_MAX])
{
        for (uint32_t i = 0; i < r->n; i++)
                parts[i] = (struct qs_flat_part){
                        .gpa = r->at[i].gpa, .bytes = r->at[i].bytes,
                        .offset = r->at[i].file_offset,
                };
}

/* ---- import --------------------------------------------------------------- */

static int read_vmstate(const char *path, char **ret_data, size_t *ret_bytes, struct err *e)
{
        /* O_NONBLOCK: do not wait for a writer of a FIFO */
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", path);

        int rc = io_read_all(fd, FC_VMSTATE_BYTES_MAX, ret_data, ret_bytes);

        if (rc == -EFBIG)
                return err_msg(e, EFBIG, "'%s' is longer than 10 MiB, which no vmstate file of "
                               "Firecracker is", path);
        return rc < 0 ? err_set(e, -rc, "read '%s'", path) : 0;
}

static int parse_layout(const char *text, enum fc_layout *ret, struct err *e)
{
        if (strcmp(text, "v1.0") && strcmp(text, "v1.13"))
                return err_msg(e, EINVAL, "--layout '%s' is neither v1.0 nor v1.13", text);
        *ret = strcmp(text, "v1.0") ? FC_LAYOUT_V1_13 : FC_LAYOUT_V1_0;
        return 0;
}

/* The rule of the version that wrote it: Versionize ended, and bitcode began, on one
 * side of v1.13. A version of bincode that we do not know may be of either. */
static int choose_layout(const struct firecracker_files *files, const struct fc_vmstate *state,
                         uint64_t bytes, enum fc_layout *ret, struct err *e)
{
        if (files->layout)
                return parse_layout(files->layout, ret, e);
        if (state->encoding == FC_BINCODE && !fc_regions_certain(state->arch, bytes))
                return err_msg(e, EINVAL, "'%s' has snapshot version %s, whose memory regions "
                               "cannot be read: say --layout v1.0, or v1.13 if Firecracker "
                               "v1.13 or later wrote it", files->vmstate, state->version);
        *ret = state->encoding == FC_VERSIONIZE ? FC_LAYOUT_V1_0 : FC_LAYOUT_V1_13;
        return 0;
}

static int find_regions(const struct firecracker_files *files, const struct fc_vmstate *state,
                        struct fc_regions *ret, struct err *e)
{
        enum fc_layout layout = FC_LAYOUT_V1_0;
        struct stat st;

        if (state->has_regions && files->layout)
                return err_msg(e, EINVAL, "'%s' says itself where memory is: leave out --layout",
                               files->vmstate);
        if (state->has_regions) {
                *ret = state->regions;
                return 0;
        }
        if (stat(files->mem, &st) < 0)
                return err_set(e, errno, "open '%s'", files->mem);

        int rc = choose_layout(files, state, (uint64_t)st.st_size, &layout, e);

        if (rc < 0)
                return rc;
        rc = fc_regions_layout(state->arch, layout, (uint64_t)st.st_size, ret, e);
        return rc < 0 ? err_in(e, rc, "'%s'", files->mem) : 0;
}

int image_import_firecracker(const struct firecracker_files *files, const char *image,
                             const struct qs_writer_options *writer, bool json, struct err *e)
{
        AUTO_FREE char *data = NULL;
        uint8_t table[FC_REGIONS_BYTES_MAX];
        struct qs_flat_part parts[FC_REGIONS_MAX];
        struct fc_vmstate state;
        struct fc_regions regions;
        size_t bytes;

        if (!files->mem || !files->vmstate) {
                err_msg(e, EINVAL, "a snapshot of Firecracker's is two files: give --firecracker "
                        "MEM and --vmstate FILE");
                return CLI_FAILED;
        }
        if (read_vmstate(files->vmstate, &data, &bytes, e) < 0)
                return CLI_FAILED;

        int rc = fc_vmstate_parse(data, bytes, &state, e);

        if (rc < 0)
                err_in(e, rc, "'%s'", files->vmstate);
        if (rc < 0 || find_regions(files, &state, &regions, e) < 0)
                return CLI_FAILED;
        make_parts(&regions, parts);

        const struct qs_flat flat = { .path = files->mem, .parts = parts, .n = regions.n };
        const struct qs_blob sections[] = {
                { FC_SECTION_VMSTATE, data, bytes },
                { FC_SECTION_REGIONS, table, fc_regions_encode(&regions, table) },
        };

        return image_import(&flat, sections, ARRAY_SIZE(sections), image, writer, json, e);
}

/* ---- what an image holds -------------------------------------------------- */

/* -ENOENT when it is not such a snapshot */
static int read_regions(struct qs_reader *reader, struct fc_regions *ret, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(reader, FC_SECTION_REGIONS, &data, &bytes, e);

        return rc < 0 ? rc : fc_regions_decode(data, bytes, ret, e);
}

bool image_firecracker_is(struct qs_reader *reader)
{
        struct fc_regions regions;

        return read_regions(reader, &regions, NULL) != -ENOENT;
}

/* ---- export --------------------------------------------------------------- */

static int export_both(struct qs_image *image, struct qs_reader *reader,
                       const struct firecracker_files *files, const struct qs_blob *vmstate,
                       bool force, bool json, struct err *e)
{
        struct qs_flat_part parts[FC_REGIONS_MAX];
        struct fc_regions regions;
        struct job job;
        int rc = read_regions(reader, &regions, e);

        if (rc < 0)
                return rc;
        make_parts(&regions, parts);

        const struct qs_flat flat = { .path = files->mem, .parts = parts, .n = regions.n };

        job_start(&job, "export", json);
        return job_end(&job, qs_export_flat(image, &flat, vmstate, force, job_progress, &job, e));
}

static int export_files(struct qs_image *image, const char *path,
                        const struct firecracker_files *files, bool force, bool json,
                        struct err *e)
{
        AUTO_FREE void *data = NULL;
        struct qs_blob vmstate = { .name = files->vmstate };
        struct qs_reader *reader = NULL;
        int rc = qs_reader_new(image, &reader, e);

        if (rc == 0)
                rc = qs_section_read(reader, FC_SECTION_VMSTATE, &data, &vmstate.bytes, e);
        vmstate.data = data;
        if (rc == -ENOENT)
                rc = err_msg(e, ENOENT, "'%s' is not a snapshot of Firecracker's: 'vmm image "
                             "export IMAGE RAW' writes its memory", path);
        else if (rc == 0 && files->mem)
                rc = export_both(image, reader, files, &vmstate, force, json, e);
        else if (rc == 0)
                rc = qs_export_blob(&vmstate, force, e);
        qs_reader_free(reader);
        return rc;
}

/* what can be said before the image is opened */
static int check_targets(const struct firecracker_files *files, struct err *e)
{
        if (files->layout)
                return err_msg(e, EINVAL, "--layout is for import: the image knows where memory "
                               "was");
        if (!files->vmstate)
                return err_msg(e, EINVAL, "a snapshot of Firecracker's is two files: give "
                               "--vmstate FILE too");
        if (files->mem && !strcmp(files->mem, files->vmstate))
                return err_msg(e, EINVAL, "memory and vmstate cannot both be written to '%s'",
                               files->mem);
        return 0;
}

int image_export_firecracker(const char *path, const struct firecracker_files *files,
                             const struct qs_open_options *how, bool force, bool json,
                             struct err *e)
{
        struct qs_image *image;

        if (check_targets(files, e) < 0 || qs_image_open_path(path, how, &image, e) < 0)
                return CLI_FAILED;

        int rc = export_files(image, path, files, force, json, e);

        qs_image_close(image);
        return rc < 0 ? CLI_FAILED : 0;
}

/* ---- info ----------------------------------------------------------------- */

static const char *arch_name(enum fc_arch arch)
{
        return arch == FC_ARCH_X86_64 ? "x86_64" : "aarch64";
}

static struct json_object *regions_json(const struct fc_regions *r)
{
        struct json_object *array = json_object_new_array();

        for (uint32_t i = 0; i < r->n; i++) {
                struct json_object *o = json_object_new_object();

                json_put_u64(o, "gpa", r->at[i].gpa);
                json_put_u64(o, "bytes", r->at[i].bytes);
                json_put_u64(o, "offset", r->at[i].file_offset);
                json_object_array_add(array, o);
        }
        return array;
}

void image_firecracker_describe(struct qs_image *image, struct json_object *o)
{
        AUTO_FREE void *data = NULL;
        struct qs_reader *reader;
        struct fc_regions regions;
        struct fc_vmstate state;
        size_t bytes;

        if (qs_reader_new(image, &reader, NULL) < 0)
                return;
        if (read_regions(reader, &regions, NULL) == 0 &&
            qs_section_read(reader, FC_SECTION_VMSTATE, &data, &bytes, NULL) == 0 &&
            fc_vmstate_parse(data, bytes, &state, NULL) == 0) {
                struct json_object *fc = json_object_new_object();

                json_put_str(fc, "version", fc_vmstate_writer(&state));
                if (state.version[0])
                        json_put_str(fc, "snapshot_version", state.version);
                json_put_str(fc, "arch", arch_name(state.arch));
                json_put_u64(fc, "memory", fc_regions_bytes(&regions));
                if (regions.page_bytes)
                        json_put_u64(fc, "page_size", regions.page_bytes);
                json_put_u64(fc, "vmstate_bytes", bytes);
                json_object_object_add(fc, "regions", regions_json(&regions));
                json_object_object_add(o, "firecracker", fc);
        }
        qs_reader_free(reader);
}

bool image_firecracker_print(struct json_object *o)
{
        struct json_object *fc, *regions;
        char size[SIZE_TEXT_MAX];

        if (!json_object_object_get_ex(o, "firecracker", &fc))
                return false;
        regions = json_object_object_get(fc, "regions");
        printf("vm:       a snapshot of Firecracker's, %s, %s, %s\n",
               json_object_get_string(json_object_object_get(fc, "version")),
               json_object_get_string(json_object_object_get(fc, "arch")),
               size_text(json_object_get_uint64(json_object_object_get(fc, "memory")), size));
        for (size_t i = 0; i < json_object_array_length(regions); i++) {
                struct json_object *r = json_object_array_get_idx(regions, i);

                printf("region:   0x%llx, %s\n",
                       (unsigned long long)json_object_get_uint64(
                               json_object_object_get(r, "gpa")),
                       size_text(json_object_get_uint64(json_object_object_get(r, "bytes")),
                                 size));
        }
        return true;
}
