/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/clone-build.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/io.h"
#include "common/wire/sections.h"
#include "vmm/gate.h"
#include "vmm/ram.h"
#include "vmm/restore.h"
#include "vmm/vm.h"

/* Theory of operation
 *
 * RAM is a private mapping of the memfd. All of it is there: a hole is a page of zeros, so
 * whoever touches it may have the kernel fill it with just that (INV-HOLE is about holes
 * that stand for something else), and nobody serves faults. A page that the guest writes to
 * is copied by the kernel. Pages are small: what many map cannot be 2 MiB here and 4 KiB
 * there, and a guest writes nearly everywhere.
 *
 * The memfd lives as long as one of the VMs does. Each keeps a descriptor: what RAM shows
 * of it is read there by a save and by the next clone (ramwhole.h).
 *
 * A disk that its guest may write is an overlay of each clone over the one file that holds the
 * moment, which nobody writes to any more and which ends with the last of them.
 */
struct clone_image {
        int ram_fd;
        void *state;                    /* heap; sections point into it */
        struct section section[SECTIONS_MAX];
        size_t nsections;
        struct meta meta;
        struct disk_files disks;
};

static int check_sealed(int fd, uint64_t *ret_bytes, struct err *e)
{
        const int needed = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK;
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0)
                return err_msg(e, EBADMSG, "what the VM handed out is not sealed");
        *ret_bytes = (uint64_t)st.st_size;
        return 0;
}

static int read_state(struct clone_image *image, int fd, struct err *e)
{
        uint64_t bytes;
        int rc = check_sealed(fd, &bytes, e);

        if (rc < 0)
                return rc;
        if (bytes == 0 || bytes > SECTIONS_BYTES_MAX)
                return err_msg(e, EBADMSG, "the state that the VM handed out is %llu bytes long",
                               (unsigned long long)bytes);
        image->state = malloc(bytes);
        if (!image->state)
                return err_msg(e, ENOMEM, "no memory for the state of a VM");
        rc = io_pread_full(fd, image->state, bytes, 0);
        if (rc == 0)
                rc = sections_decode(image->state, bytes, image->section, &image->nsections);
        return rc < 0 ? err_set(e, -rc, "read the state that the VM handed out") : 0;
}

static int find(const struct clone_image *image, const char *name, const struct section **ret,
                struct err *e)
{
        *ret = sections_find(image->section, image->nsections, name);
        return *ret ? 0 : err_msg(e, EBADMSG, "what the VM handed out has no section %s", name);
}

/* Those without a file here are only read, and must be what they were. Whoever started the VM
 * that is cloned has named them. */
static int find_disks(struct clone_image *image, struct err *e)
{
        struct machine_config *c = &image->meta.machine;
        const struct kept_disks_image from = { image->meta.name, image->ram_fd };
        const struct disks_wish wish = { .present = c };

        return kept_disks_find(&image->meta.disks, &from, &wish, c, &image->disks, e);
}

static int read_meta(struct clone_image *image, struct err *e)
{
        const struct section *s;
        struct ram ram;
        uint64_t bytes;
        int rc = find(image, SECTION_META, &s, e);

        if (rc == 0)
                rc = meta_decode(s->data, s->bytes, &image->meta, e);
        machine_config_unplug(&image->meta.machine);
        if (rc == 0)
                rc = find_disks(image, e);
        if (rc == 0)
                rc = ram_init(&ram, image->meta.memory_bytes, e);
        if (rc == 0)
                rc = check_sealed(image->ram_fd, &bytes, e);
        if (rc == 0 && bytes != ram_end_gpa(&ram))
                rc = err_msg(e, EBADMSG, "the memory that the VM handed out has another size "
                             "than its guest's");
        return rc;
}

int clone_image_new(struct clone_parts *parts, struct clone_image **ret, struct err *e)
{
        AUTO_FD state_fd = fd_take(&parts->state_fd);
        struct clone_image *image = calloc(1, sizeof(*image));

        if (!image)
                return err_msg(e, ENOMEM, "no memory for the state of a VM");
        image->ram_fd = fd_take(&parts->ram_fd);
        image->disks = parts->disks;
        disk_files_init(&parts->disks);

        int rc = read_state(image, state_fd, e);

        if (rc == 0)
                rc = read_meta(image, e);
        if (rc < 0)
                clone_image_free(image);
        else
                *ret = image;
        return rc;
}

void clone_image_free(struct clone_image *image)
{
        if (!image)
                return;
        fd_close(&image->ram_fd);
        disk_files_fini(&image->disks);
        free(image->state);
        free(image);
}

const struct meta *clone_image_meta(const struct clone_image *image)
{
        return &image->meta;
}

/* ---- in the new VM's process ----------------------------------------------------- */

static int give_section(void *ctx, const char *name, void **ret_data, size_t *ret_bytes,
                        struct err *e)
{
        const struct section *s;
        int rc = find(ctx, name, &s, e);

        if (rc < 0)
                return rc;

        void *data = malloc(s->bytes + 1);

        if (!data)
                return err_msg(e, ENOMEM, "no memory for section %s", name);
        memcpy(data, s->data, s->bytes);
        *ret_data = data;
        *ret_bytes = s->bytes;
        return 0;
}

static int map_ram(void *ctx, struct vm *vm, struct err *e)
{
        struct clone_image *image = ctx;
        int rc = ram_map_cache(&vm->ram, image->ram_fd, e);

        if (rc == 0)
                rc = ram_unlock(&vm->ram, e);
        if (rc < 0)
                return rc;
        vm->backing = VM_BACKING_CLONE;
        vm->flat_fd = fd_take(&image->ram_fd);
        vm->phases.resident_ns = clock_now_ns();
        return 0;
}

int clone_build(struct vm *vm, void *ctx, struct err *e)
{
        struct clone_birth *birth = ctx;
        const struct meta *meta = &birth->image->meta;
        const struct restore from = {
                .from = meta->name, .meta = meta, .disk_files = &birth->image->disks,
                .section = give_section,
                .bring_ram = map_ram, .ctx = birth->image,
        };

        /* the command's end alone is to be seen at the other one */
        fd_close(&birth->gate[1]);
        snprintf(vm->clone_of, sizeof(vm->clone_of), "%s", meta->name);
        vm->phases.open_ns = clock_now_ns();

        int rc = restore_build(vm, &from, e);

        if (rc == 0)
                rc = gate_new(vm, fd_take(&birth->gate[0]), e);
        clone_image_free(ptr_take(&birth->image));
        return rc;
}
