/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/coldboot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/clock.h"
#include "vmm/boot.h"
#include "vmm/cpuid.h"
#include "vmm/payload/payload.h"

#define CMDLINE_BYTES_MAX 2048

struct file {
        const char *path;
        void *data;                     /* mapped */
        size_t bytes;
};

/* Private and whole; a kernel that is truncated under us only kills its own VM. */
static int file_map(struct file *f, const char *path, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        f->path = path;
        f->data = NULL;
        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "open '%s'", path);
        if (!S_ISREG(st.st_mode) || st.st_size == 0)
                return err_msg(e, EINVAL, "'%s' is not a kernel or initrd: it is %s", path,
                               S_ISREG(st.st_mode) ? "empty" : "no regular file");
        f->bytes = (size_t)st.st_size;
        f->data = mmap(NULL, f->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (f->data == MAP_FAILED) {
                f->data = NULL;
                return err_set(e, errno, "map '%s'", path);
        }
        return 0;
}

static void file_unmap(struct file *f)
{
        if (f->data)
                munmap(f->data, f->bytes);
        f->data = NULL;
}

static int load(struct vm *vm, const struct coldboot *c, struct boot_entry *entry, struct err *e)
{
        struct file kernel = { 0 };
        struct file initrd = { 0 };
        char cmdline[CMDLINE_BYTES_MAX];
        struct boot_source source = { .cmdline = cmdline };
        const struct acpi_machine machine = {
                .cpus = c->cpus, .virtio_slots = machine_config_slots(&c->machine),
                .vmgenid = c->machine.vmgenid,
        };
        int rc = 0;

        if (c->demo) {
                source.kernel = payload_elf_start;
                source.kernel_bytes = (size_t)(payload_elf_end - payload_elf_start);
                source.kernel_name = "the built-in payload";
                snprintf(cmdline, sizeof(cmdline), "cpus=%u %s", c->cpus, c->cmdline);
        } else {
                rc = file_map(&kernel, c->kernel_path, e);
                if (rc == 0 && c->initrd_path)
                        rc = file_map(&initrd, c->initrd_path, e);
                source.kernel = kernel.data;
                source.kernel_bytes = kernel.bytes;
                source.kernel_name = c->kernel_path;
                source.initrd = initrd.data;
                source.initrd_bytes = initrd.bytes;
                snprintf(cmdline, sizeof(cmdline), "%s", c->cmdline);
        }
        if (rc == 0)
                rc = boot_load(&vm->ram, &machine, &source, entry, e);
        file_unmap(&kernel);
        file_unmap(&initrd);
        return rc;
}

int coldboot_build(struct vm *vm, void *ctx, struct err *e)
{
        const struct coldboot *c = ctx;
        struct boot_entry entry;
        int rc = 0;

        vm->backing = VM_BACKING_BOOT;
        vm->machine = c->machine;
        if (strlen(c->cmdline) + sizeof("cpus=8 ") > CMDLINE_BYTES_MAX)
                return err_msg(e, EINVAL, "the kernel command line is longer than %d bytes",
                               CMDLINE_BYTES_MAX - (int)sizeof("cpus=8 "));
        rc = ram_init(&vm->ram, c->memory_bytes, e);
        if (rc == 0)
                rc = ram_check_host(c->memory_bytes, e);
        if (rc == 0)
                rc = kvm_open(&vm->kvm, e);
        if (rc == 0)
                rc = ram_map_anonymous(&vm->ram, false, c->hugepages ? RAM_HUGETLB : RAM_THP, e);
        vm->phases.open_ns = clock_now_ns();
        if (rc == 0)
                rc = load(vm, c, &entry, e);
        if (rc == 0)
                rc = kvm_create(&vm->kvm, &vm->ram, c->cpus, e);
        if (rc == 0)
                rc = vm_add_machine(vm, e);
        if (rc == 0 && c->machine.vmgenid)
                rc = platform_add_vmgenid(vm->platform, &vm->ram, e);
        vm->phases.kvm_create_ns = clock_now_ns();
        if (rc == 0)
                rc = cpuid_set_all(&vm->kvm, e);
        if (rc == 0)
                rc = boot_set_vcpus(&vm->kvm, &entry, e);
        vm->phases.state_restore_ns = vm->phases.resident_ns = clock_now_ns();
        return rc;
}
