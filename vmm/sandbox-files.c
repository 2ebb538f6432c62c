/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sandbox-files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/landlock.h"
#include "vmm/confine.h"
#include "vmm/program-path.h"
#include "vmm/rundir.h"
#include "vmm/vm.h"

#define CANNOT "cannot give up files (--sandbox off does without)"

/* what LANDLOCK_ALL means here: no REFER, for nothing of ours moves a file to another folder
 * (common/publish.h), and none of what makes devices, pipes, links and folders */
#define READ (LANDLOCK_READ_FILE | LANDLOCK_READ_DIR)
#define CHANGE (LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_TRUNCATE)
#define MAKE (CHANGE | LANDLOCK_READ_DIR | LANDLOCK_MAKE_REG | LANDLOCK_REMOVE_FILE)
#define DEVICE (LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_IOCTL_DEV)

/* Theory of operation
 *
 * A ruleset without rules is made at once, for all whose role is to name no file. The one of
 * the loop and its jobs is made when the VM has been built: only then it is known what it
 * needs, and the guest runs already, or may. What was opened before stays open: images, disks,
 * sockets, the console, taps and KVM are no concern of rules, but where something opens them
 * anew by name: a rollback does that with disks and images, a save with its parent.
 *
 * Those who start page servers make theirs when they enter, on a thread of their own, for
 * nobody waits for that. What they start inherits it, and enters its own sandbox within. The
 * first page server of a VM is started before all this, or by a starter.
 *
 * All that a process may, any of its threads can be made to do by who has written to its
 * memory. So the starter, which begins with all of the user's rights, gives up the same as
 * the loop, when that does.
 */
struct sandbox_files {
        const struct confine *confine;
        struct landlock none;
        struct landlock settled;        /* the loop's and jobs'; until settled it is none's */
        bool is_settled;
};

static bool confined(const struct sandbox_files *f)
{
        return f->confine && f->confine->n > 0;
}

/* Sanitizers read /proc and start programs. */
static int make(uint32_t handled, struct landlock *ret, struct err *e)
{
        *ret = LANDLOCK_NONE;
        return SANITIZED ? 0 : landlock_new(handled, true, ret, e);
}

int sandbox_files_new(struct sandbox_files **ret, struct err *e)
{
        struct sandbox_files *f = calloc(1, sizeof(*f));
        int rc;

        if (!f)
                return err_set(e, ENOMEM, "sandbox");
        f->settled = LANDLOCK_NONE;
        rc = make(LANDLOCK_ALL, &f->none, e);
        if (rc < 0) {
                sandbox_files_free(f);
                return err_in(e, rc, CANNOT);
        }
        *ret = f;
        return 0;
}

void sandbox_files_free(struct sandbox_files *f)
{
        if (!f)
                return;
        landlock_close(&f->none);
        landlock_close(&f->settled);
        free(f);
}

void sandbox_files_confine(struct sandbox_files *f, const struct confine *confine)
{
        f->confine = confine;
}

/* ---- the loop and its jobs --------------------------------------------------------- */

/* What everybody may read, and write. */
static int allow_system(const struct landlock *l, struct err *e)
{
        static const struct {
                const char *path;
                uint32_t rights;
        } needs[] = {
                { "/proc", READ },              /* pagemap, meminfo; none of other processes */
                { "/sys", READ },               /* of disks, control groups, processors */
                { "/dev/null", DEVICE },
                { "/dev/userfaultfd", DEVICE }, /* saves watch writes */
        };
        int rc = 0;

        for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(needs); i++)
                rc = landlock_allow_path(l, needs[i].path, needs[i].rights, e);
        return rc;
}

static int allow_confined(const struct landlock *l, const struct confine *c, struct err *e)
{
        int rc = 0;

        for (unsigned i = 0; rc == 0 && i < c->n; i++)
                rc = landlock_allow_path(l, c->folder[i], MAKE, e);
        return rc;
}

/* A rollback makes disks' overlays anew: nameless files, beside the disks where those are
 * confined to, else here (disk/nameless.h). Names cannot be made. */
static int allow_disks(const struct landlock *l, const struct vm *vm, struct err *e)
{
        const char *tmp = getenv("TMPDIR");
        int rc = landlock_allow_path(l, "/var/tmp", CHANGE, e);

        if (rc == 0 && tmp && *tmp)
                rc = landlock_allow_path(l, tmp, CHANGE, e);
        for (unsigned i = 0; rc == 0 && i < vm->machine.ndisks; i++) {
                const struct disk_config *d = &vm->machine.disk[i];

                rc = landlock_allow_path(l, d->path, d->read_only || d->overlay ? READ
                                         : CHANGE | LANDLOCK_IOCTL_DEV, e);
        }
        return rc;
}

/* The files that RAM comes from, not their folders: a rollback opens them again. A working set
 * is stored in the first. */
static int allow_layers(const struct landlock *l, const struct vm *vm, struct err *e)
{
        unsigned n = vm->parent ? qs_image_info(vm->parent)->layers : 0;
        int rc = 0;

        for (unsigned i = 0; rc == 0 && i < n; i++)
                rc = landlock_allow(l, qs_image_fd(vm->parent, i),
                                    i == 0 && vm->recorder ? CHANGE : READ, e);
        return rc;
}

/* Which files an image consists of that was loaded whole is forgotten: a rollback looks for
 * them where they were. */
static int allow_images(const struct landlock *l, const struct vm *vm, struct err *e)
{
        const struct snapshot *s = &vm->snapshot;
        AUTO_FREE char *path = s->path ? strdup(s->path) : NULL;
        int rc = allow_layers(l, vm, e);

        if (rc == 0 && path && !vm->parent)
                rc = landlock_allow_path(l, dirname(path), READ, e);
        if (rc == 0 && s->allow_parent && !vm->parent)
                rc = landlock_allow_path(l, s->allow_parent, READ, e);
        return rc;
}

/* Its sockets and its lock are removed in the end. */
static int allow_rundir(const struct landlock *l, const struct vm *vm, struct err *e)
{
        struct rundir_path path;
        int rc = rundir_path(&path, vm->name, "lock", e);

        return rc == 0 ? landlock_allow_path(l, dirname(path.text), LANDLOCK_REMOVE_FILE, e) : rc;
}

static int settle_confined(const struct sandbox_files *f, const struct vm *vm,
                           const struct landlock *l, struct err *e)
{
        int rc = allow_system(l, e);

        if (rc == 0)
                rc = allow_confined(l, f->confine, e);
        if (rc == 0)
                rc = allow_disks(l, vm, e);
        if (rc == 0)
                rc = allow_images(l, vm, e);
        return rc == 0 ? allow_rundir(l, vm, e) : rc;
}

int sandbox_files_settle(struct sandbox_files *f, const struct vm *vm, struct err *e)
{
        int rc;

        ASSERT(!f->is_settled);
        rc = make(confined(f) ? LANDLOCK_ALL : LANDLOCK_EXECUTE, &f->settled, e);
        if (rc == 0 && confined(f))
                rc = settle_confined(f, vm, &f->settled, e);
        f->is_settled = rc == 0;
        return rc < 0 ? err_in(e, rc, CANNOT) : 0;
}

/* ---- who starts page servers ---------------------------------------------------------- */

struct libraries {
        const struct landlock *ruleset;
        int rc;
        struct err *e;
};

/* What we were started with is what the page server needs: the same libraries, maybe fewer.
 * The one that starts programs is at AT_BASE, and is executed. */
static int allow_library(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
        struct libraries *all = ctx;
        bool starts = info->dlpi_addr == getauxval(AT_BASE);
        AUTO_FREE char *real = info->dlpi_name[0] ? realpath(info->dlpi_name, NULL) : NULL;

        (void)bytes;
        if (real)
                all->rc = landlock_allow_path(all->ruleset, dirname(real), READ |
                                              (starts ? LANDLOCK_EXECUTE : 0), all->e);
        return all->rc;
}

static int allow_libraries(const struct landlock *l, struct err *e)
{
        struct libraries all = { .ruleset = l, .e = e };

        (void)dl_iterate_phdr(allow_library, &all);
        if (all.rc == 0)
                all.rc = landlock_allow_path(l, "/etc/ld.so.cache", READ, e);
        if (all.rc == 0)
                all.rc = landlock_allow_path(l, "/etc/ld.so.preload", READ, e);
        /* where memory runs short it is told */
        if (all.rc == 0)
                all.rc = landlock_allow_path(l, "/proc/pressure", CHANGE, e);
        return all.rc;
}

/* Who had it put in the place of the page server wants what it runs. */
static bool is_script(const char *program)
{
        AUTO_FD fd = open(program, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        char start[2];

        return fd >= 0 && pread(fd, start, sizeof(start), 0) == sizeof(start) &&
               start[0] == '#' && start[1] == '!';
}

/* handled: nothing, where nothing of it is limited */
static int make_starter(uint32_t handled, struct landlock *ret, struct err *e)
{
        char program[PATH_MAX];
        AUTO_FREE char *real = NULL;
        int rc;

        if (pageserver_path(program, sizeof(program), NULL) == 0)
                real = realpath(program, NULL);
        if (real && is_script(real))
                handled &= ~(LANDLOCK_EXECUTE | READ);
        if (!handled)
                return 0;
        rc = make(handled, ret, e);
        if (rc == 0)
                rc = allow_system(ret, e);
        if (rc == 0)
                rc = allow_libraries(ret, e);
        if (rc == 0 && real)
                rc = landlock_allow_path(ret, dirname(real), READ | LANDLOCK_EXECUTE, e);
        return rc;
}

static int enter_starter(uint32_t handled, struct err *e)
{
        struct landlock l = LANDLOCK_NONE;
        int rc = make_starter(handled, &l, e);

        if (rc == 0)
                rc = landlock_enter(&l, e);
        landlock_close(&l);
        return rc;
}

/* ---- the whole ---------------------------------------------------------------------- */

static int enter(const struct sandbox_files *f, enum sandbox_role role, struct err *e)
{
        switch (role) {
        case SANDBOX_PAGER:
                return enter_starter(confined(f) ? LANDLOCK_ALL : LANDLOCK_EXECUTE, e);
        case SANDBOX_STARTER:
                return enter_starter(LANDLOCK_EXECUTE, e);
        case SANDBOX_LOOP:
        case SANDBOX_JOB:
                return landlock_enter(f->is_settled ? &f->settled : &f->none, e);
        default:
                return landlock_enter(&f->none, e);
        }
}

int sandbox_files_enter(const struct sandbox_files *f, enum sandbox_role role, struct err *e)
{
        int rc = enter(f, role, e);

        return rc < 0 ? err_in(e, rc, CANNOT) : 0;
}

const char *sandbox_files_lack(void)
{
        if (SANITIZED)
                return "files are not limited, because this build has sanitizers, which need "
                       "others";
        if (!landlock_abi())
                return "files are not out of reach: this kernel lacks Landlock (Linux 5.13, with "
                       "landlock in lsm=)";
        return NULL;
}
