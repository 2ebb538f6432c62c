/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/revert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/clock.h"
#include "vmm/image-firecracker.h"
#include "vmm/image-qemu.h"
#include "vmm/load.h"
#include "vmm/pager.h"
#include "vmm/prepared.h"
#include "vmm/recorder.h"
#include "vmm/restore.h"
#include "vmm/revert-priv.h"

static bool net_is_given(const struct revert *r, const struct net_config *n)
{
        for (unsigned i = 0; i < r->options.nnets; i++) {
                size_t bytes = strlen(n->id);

                if (!strncmp(r->options.net[i], n->id, bytes) && r->options.net[i][bytes] == '=')
                        return true;
        }
        return false;
}

/* What an image names of this host is used unasked only if the image is the caller's own, and
 * then only names of network interfaces and absolute paths: no device files, no descriptors. */
static int check_plugs(const struct revert *r, struct err *e)
{
        const struct machine_config *c = &r->meta.machine;
        struct stat st;
        bool own = fstat(qs_image_fd(r->image, 0), &st) == 0 && st.st_uid == geteuid();

        for (unsigned i = 0; i < c->nnets; i++) {
                const struct net_config *n = &c->net[i];

                if (n->tap[0] && !net_is_given(r, n) && (!own || strpbrk(n->tap, "/:")))
                        return err_msg(e, EPERM, "the network device %s of the saved VM was on "
                                       "'%s': say what it is to be on here, by --net %s=TAP or "
                                       "--net %s=none", n->id, n->tap, n->id, n->id);
        }
        if (c->vsock.path[0] && !r->options.vsock && (!own || c->vsock.path[0] != '/'))
                return err_msg(e, EPERM, "the sockets of the saved VM were at '%s': say where "
                               "they are to be here, by --vsock PATH or --vsock none",
                               c->vsock.path);
        return 0;
}

int revert_change_machine(struct revert *r, struct err *e)
{
        const struct kept_disks_image image = { r->options.image_path, qs_image_fd(r->image, 0) };
        struct machine_config *c = &r->meta.machine;
        int rc = 0;

        for (unsigned i = 0; i < r->options.nnets && rc == 0; i++)
                rc = machine_config_change_net(c, r->options.net[i], e);
        if (rc == 0 && r->options.vsock)
                rc = machine_config_change_vsock(c, r->options.vsock, e);
        if (rc == 0)
                rc = check_plugs(r, e);
        if (rc == 0)
                rc = kept_disks_find(&r->meta.disks, &image, &r->options.disks, c,
                                     &r->disk_files, e);
        return rc < 0 ? err_in(e, rc, "'%s'", r->options.image_path) : 0;
}

static int read_meta(struct revert *r, struct err *e)
{
        AUTO_FREE void *data = NULL;
        size_t bytes;
        int rc = qs_section_read(r->reader, SECTION_META, &data, &bytes, e);

        if (rc == -ENOENT && image_firecracker_is(r->reader))
                return err_msg(e, ENOENT, "'%s' is a snapshot of Firecracker's, which restores "
                               "it: 'vmm image export' writes its vmstate file, 'pageserver "
                               "--firecracker' serves its memory", r->options.image_path);
        if (rc == -ENOENT && image_qemu_is(r->reader))
                return err_msg(e, ENOENT, "'%s' is a machine of QEMU's: start a QEMU like it with "
                               "'-incoming defer' and tell it \"migrate-incoming exec:exec "
                               "qemu-snapshot --revert --postcopy IMAGE\", see qemu-snapshot(1)",
                               r->options.image_path);
        if (rc == -ENOENT)
                return err_msg(e, ENOENT, "'%s' holds no saved VM, only memory: 'vmm image export' "
                               "reads it", r->options.image_path);
        if (rc == 0)
                rc = meta_decode(data, bytes, &r->meta, e);
        return rc < 0 ? err_in(e, rc, "'%s'", r->options.image_path) : 0;
}

int revert_look(const struct revert_options *options, struct revert **ret, struct err *e)
{
        struct revert *r = calloc(1, sizeof(*r));
        const struct qs_open_options how = {
                .tag = options->tag, .allow_parent = options->allow_parent,
                /* the page server opens them all before the guest runs */
                .parents_later = options->postcopy,
        };

        if (!r)
                return err_msg(e, ENOMEM, "no memory to revert '%s'", options->image_path);
        r->options = *options;
        disk_files_init(&r->disk_files);

        int rc = qs_image_open_path(options->image_path, &how, &r->image, e);

        if (rc == 0)
                rc = qs_reader_new(r->image, &r->reader, e);
        if (rc == 0)
                rc = read_meta(r, e);
        if (rc < 0)
                revert_close(r);
        else
                *ret = r;
        return rc;
}

int revert_open(const struct revert_options *options, struct revert **ret, struct err *e)
{
        struct revert *r;
        int rc = revert_look(options, &r, e);

        if (rc < 0)
                return rc;
        rc = revert_change_machine(r, e);
        if (rc < 0) {
                revert_close(r);
                return rc;
        }
        r->opened_ns = clock_now_ns();
        *ret = r;
        return 0;
}

void revert_close(struct revert *r)
{
        if (!r)
                return;
        disk_files_fini(&r->disk_files);
        pager_free(r->pager);
        restore_docs_fini(&r->docs);
        qs_reader_free(r->reader);
        qs_image_close(r->image);
        free(r);
}

const struct meta *revert_meta(const struct revert *r)
{
        return &r->meta;
}

/* Restoring state makes KVM look at guest memory, and so do we before the first
 * instruction: on a page that cannot be had the building thread waits for ever,
 * and there is no event loop yet that could tell. */
static void give_up_on_bad_page(struct vm *vm)
{
        struct pager_news news;
        struct err e;

        pager_news(vm->pager, false, &news);
        if (!news.bad_page)
                return;
        err_msg(&e, EIO, "VM '%s' cannot be reverted: memory at 0x%llx cannot be loaded: %s",
                vm->name, (unsigned long long)news.bad_gpa, news.text);
        vm_give_up(vm, e.text);
}

static void on_pager_news(void *ctx)
{
        struct vm *vm = ctx;

        if (!vm->started)
                give_up_on_bad_page(vm);
        vm_post(vm, VM_POST_PAGER);
}

int revert_new_pager(struct revert *r, struct ps_client *server, struct vm *vm,
                     struct pager **ret, struct err *e)
{
        struct pager_options options = {
                .image = r->image, .image_path = r->options.image_path,
                .socket = r->options.pageserver, .lane = r->options.lane,
                .prefetch_rate = r->options.prefetch_rate,
                .hold_percent = r->options.hold_percent, .hugepages = r->options.hugepages,
                .record = r->options.record, .server = server,
                .starter = vm ? vm->starter : NULL,
        };

        return pager_new(&options, vm ? on_pager_news : NULL, vm, ret, e);
}

static int start_pager(void *ctx, struct vm *vm, struct err *e)
{
        struct revert *r = ctx;

        if (r->pager)                   /* RAM is served already */
                return 0;
        return revert_new_pager(r, r->options.pageserver ? NULL :
                                prepared_give_server(vm->prepared), vm, &vm->pager, e);
}

static int adopt_pager(struct revert *r, struct vm *vm, struct err *e)
{
        vm->pager = ptr_take(&r->pager);
        vm->was_foreseen = true;
        return pager_adopt(vm->pager, vm->starter, on_pager_news, vm, e);
}

static int bring_ram(void *ctx, struct vm *vm, struct err *e)
{
        struct revert *r = ctx;
        int rc;

        if (r->options.postcopy) {
                rc = r->pager ? adopt_pager(r, vm, e) : pager_start(vm->pager, &vm->ram, e);
                if (rc == 0)
                        vm->backing = pager_lane(vm->pager) == PS_LANE_SHARED ? VM_BACKING_SHARED :
                                                                                VM_BACKING_COPY;
                return rc;
        }
        vm->backing = VM_BACKING_LOADED;
        rc = ram_check_host(r->meta.memory_bytes, e);
        if (rc == 0)
                rc = ram_map_anonymous(&vm->ram, false,
                                       r->options.hugepages ? RAM_HUGETLB : RAM_THP, e);
        if (rc == 0)
                rc = load_ram(r->image, &vm->ram, vm->starter, e);
        if (rc == 0)
                vm->phases.resident_ns = clock_now_ns();
        return rc;
}

int revert_section(void *ctx, const char *name, void **ret_data, size_t *ret_bytes,
                   struct err *e)
{
        struct revert *r = ctx;

        return qs_section_read(r->reader, name, ret_data, ret_bytes, e);
}

/* the image stays open, the guest's RAM depends on it */
static int start_recorder(struct revert *r, struct vm *vm, struct err *e)
{
        const struct recorder_options options = {
                .image_path = r->options.image_path, .seconds = r->options.record_seconds,
        };

        return r->options.record ? recorder_new(vm, &options, &vm->recorder, e) : 0;
}

int revert_build(struct vm *vm, void *ctx, struct err *e)
{
        struct revert *r = ctx;
        const struct restore from = {
                .from = r->options.image_path, .meta = &r->meta,
                .disk_files = &r->disk_files, .section = revert_section,
                .prepare = r->options.postcopy ? start_pager : NULL, .bring_ram = bring_ram,
                .ctx = r, .docs = r->docs.state ? &r->docs : NULL,
        };

        vm->phases.open_ns = r->opened_ns;

        int rc = restore_build(vm, &from, e);

        if (rc == 0)
                rc = start_recorder(r, vm, e);
        if (rc == 0) {
                snapshot_set(&vm->snapshot, r->options.image_path, qs_image_info(r->image)->tag,
                             r->options.allow_parent);
                /* an image that the guest's RAM still depends on */
                if (r->options.postcopy)
                        vm->parent = ptr_take(&r->image);
        }
        disk_files_fini(&r->disk_files);
        qs_reader_free(ptr_take(&r->reader));
        if (rc == 0)                    /* others may delete what was read */
                qs_image_close(ptr_take(&r->image));
        return rc;
}
