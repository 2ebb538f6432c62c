/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a thread names the files that its role may, and no other; what it may make it can
 *       publish; nothing leaves the folders that a VM is confined to.
 * Method: one child for each role and deed, which enters and then tries: its exit status is
 *       the errno. Files lie in a temporary folder, "in" is what the VM is confined to. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/landlock.h"
#include "common/publish.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "vmm/confine.h"
#include "vmm/sandbox-files.h"
#include "vmm/vm.h"

/* who tries */
enum who { NAMELESS, LOOP, LOOP_IN, PAGER, PAGER_IN, STARTER_IN, WHO };

typedef long deed_fn(void);

static void must(bool ok, const char *what)
{
        if (!ok) {
                perror(what);
                _exit(255);
        }
}

/* ---- deeds ----------------------------------------------------------------------- */

static long opens(const char *path, int flags)
{
        return open(path, flags | O_CLOEXEC, 0600);
}

static long reads_in(void) { return opens("in/file", O_RDONLY); }
static long reads_out(void) { return opens("out/file", O_RDONLY); }
static long lists_out(void) { return opens("out", O_RDONLY | O_DIRECTORY); }
static long finds_out(void) { return opens("out", O_PATH | O_DIRECTORY); }
static long looks_out(void) { return access("out/file", F_OK); }
static long writes_in(void) { return opens("in/file", O_WRONLY | O_TRUNC); }
static long writes_out(void) { return opens("out/file", O_WRONLY); }
static long climbs_out(void) { return opens("in/../out/file", O_WRONLY); }
static long follows_out(void) { return opens("in/way-out", O_WRONLY); }
static long makes_in(void) { return opens("in/new", O_WRONLY | O_CREAT | O_EXCL); }
static long makes_out(void) { return opens("out/new", O_WRONLY | O_CREAT | O_EXCL); }
static long removes_in(void) { return unlink("in/file"); }
static long removes_out(void) { return unlink("out/file"); }
static long renames_in(void) { return rename("in/file", "in/other"); }
static long renames_out(void) { return rename("in/file", "out/other"); }
static long links_in(void) { return link("in/file", "in/other"); }
static long links_out(void) { return link("in/file", "out/other"); }
static long links_deeper(void) { return link("in/file", "in/deeper/other"); }
static long fetches(void) { return link("out/file", "in/other"); }
static long truncates_out(void) { return truncate("out/file", 0); }
static long makes_folder(void) { return mkdir("in/folder", 0700); }
static long makes_link(void) { return symlink("/etc/passwd", "in/link"); }
static long makes_device(void) { return mknod("in/device", S_IFIFO | 0600, 0); }
static long writes_disk(void) { return opens("out/disk", O_RDWR); }
static long writes_read_only_disk(void) { return opens("out/disk-ro", O_RDWR); }
static long reads_image(void) { return opens("images/image", O_RDONLY); }
static long writes_image(void) { return opens("images/image", O_RDWR); }
static long frees_name(void) { return unlink("run/vm.lock"); }
static long takes_name(void) { return opens("run/other.lock", O_RDWR | O_CREAT); }
static long makes_temp_name(void) { return opens("tmp/name", O_RDWR | O_CREAT | O_EXCL); }
static long discards(void) { return opens("/dev/null", O_RDWR); }
static long looks_at_itself(void) { return opens("/proc/self/pagemap", O_RDONLY); }

/* as overlays and images are made */
static long makes_temp(void)
{
        int fd = open("tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return fd < 0 && errno == EOPNOTSUPP ? 0 : fd < 0 ? -1 : ftruncate(fd, 4096);
}

static long publishes(const char *path, bool force)
{
        struct publish *p;
        struct err e = { 0 };
        int rc = publish_new(path, force, &p, &e);

        if (rc == 0) {
                rc = ftruncate(publish_fd(p), 4096) < 0 ? -errno : 0;
                if (rc == 0)
                        rc = publish_commit(p, &e);
                publish_free(p);
        }
        errno = -rc;
        return rc;
}

static long publishes_in(void) { return publishes("in/image", false); }
static long replaces_in(void) { return publishes("in/file", true); }
static long publishes_deeper(void) { return publishes("in/deeper/image", false); }
static long publishes_out(void) { return publishes("out/image", false); }

static long reads_of_parent(const char *what)
{
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/%s", (int)getppid(), what);
        return opens(path, O_RDONLY);
}

static long opens_anothers(void) { return reads_of_parent("fd/0"); }
static long reads_anothers_memory(void) { return reads_of_parent("mem"); }

static long connects(void)
{
        const struct sockaddr_in to = {
                .sin_family = AF_INET, .sin_port = htons(9),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        AUTO_FD fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        return connect(fd, (const struct sockaddr *)&to, sizeof(to)) < 0 &&
               errno != ECONNREFUSED ? -1 : 0;
}

static long executes(const char *program)
{
        char *argv[] = { (char *)program, NULL };

        return execv(program, argv);
}

static long runs_server(void) { return executes("server/pageserver"); }
static long runs_other(void) { return executes("out/program"); }
static long runs_what_it_made(void) { return executes("in/program"); }

/* ---- what comes of them ---------------------------------------------------------- */

static const struct {
        const char *name;
        deed_fn *deed;
        int nameless, loop, loop_in, pager, pager_in;           /* errnos */
} rows[] = {
        { "read in", reads_in, EACCES, 0, 0, 0, EACCES },
        { "read out", reads_out, EACCES, 0, EACCES, 0, EACCES },
        { "list out", lists_out, EACCES, 0, EACCES, 0, EACCES },
        { "find out", finds_out, 0, 0, 0, 0, 0 },
        { "look out", looks_out, 0, 0, 0, 0, 0 },
        { "write in", writes_in, EACCES, 0, 0, 0, EACCES },
        { "write out", writes_out, EACCES, 0, EACCES, 0, EACCES },
        { "climb out", climbs_out, EACCES, 0, EACCES, 0, EACCES },
        { "follow out", follows_out, EACCES, 0, EACCES, 0, EACCES },
        { "make in", makes_in, EACCES, 0, 0, 0, EACCES },
        { "make out", makes_out, EACCES, 0, EACCES, 0, EACCES },
        { "remove in", removes_in, EACCES, 0, 0, 0, EACCES },
        { "remove out", removes_out, EACCES, 0, EACCES, 0, EACCES },
        { "rename in", renames_in, EACCES, 0, 0, 0, EACCES },
        { "rename out", renames_out, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "link in", links_in, EACCES, 0, 0, 0, EACCES },
        { "link out", links_out, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "link deeper", links_deeper, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "fetch by link", fetches, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "truncate out", truncates_out, EACCES, 0, EACCES, 0, EACCES },
        { "make folder", makes_folder, EACCES, 0, EACCES, 0, EACCES },
        { "make link", makes_link, EACCES, 0, EACCES, 0, EACCES },
        { "make pipe", makes_device, EACCES, 0, EACCES, 0, EACCES },
        { "publish in", publishes_in, EACCES, 0, 0, 0, EACCES },
        { "replace in", replaces_in, EACCES, 0, 0, 0, EACCES },
        { "publish deeper", publishes_deeper, EACCES, 0, 0, 0, EACCES },
        { "publish out", publishes_out, EACCES, 0, EACCES, 0, EACCES },
        { "write disk", writes_disk, EACCES, 0, 0, 0, EACCES },
        { "write disk,ro", writes_read_only_disk, EACCES, 0, EACCES, 0, EACCES },
        { "read image", reads_image, EACCES, 0, 0, 0, EACCES },
        { "write image", writes_image, EACCES, 0, EACCES, 0, EACCES },
        { "free name", frees_name, EACCES, 0, 0, 0, EACCES },
        { "take name", takes_name, EACCES, 0, EACCES, 0, EACCES },
        { "nameless", makes_temp, EACCES, 0, 0, 0, EACCES },
        { "temp name", makes_temp_name, EACCES, 0, EACCES, 0, EACCES },
        { "/dev/null", discards, EACCES, 0, 0, 0, 0 },
        { "own pagemap", looks_at_itself, EACCES, 0, 0, 0, 0 },
        { "other's descriptor", opens_anothers, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "other's memory", reads_anothers_memory, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "TCP", connects, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "run page server", runs_server, EACCES, EACCES, EACCES, 0, 0 },
        { "run another", runs_other, EACCES, EACCES, EACCES, EACCES, EACCES },
        { "run what it made", runs_what_it_made, EACCES, EACCES, EACCES, EACCES, EACCES },
};

/* ---- a child ---------------------------------------------------------------------- */

static void make_file(const char *path, const char *text, mode_t mode)
{
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

        must(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
}

static void copy_program(const char *from, const char *to)
{
        char command[256];

        snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
        must(system(command) == 0, "cp");
}

/* as it is before every deed */
static void make_files(void)
{
        static const char *const folders[] = { "in", "in/deeper", "out", "images", "run", "tmp",
                                               "server" };
        static const char *const files[] = { "in/file", "out/file", "out/disk", "out/disk-ro",
                                             "images/image", "run/vm.lock" };

        must(system("rm -rf in out images run tmp") == 0, "rm");
        for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
                must(mkdir(folders[i], 0700) == 0 || errno == EEXIST, folders[i]);
        for (size_t i = 0; i < ARRAY_SIZE(files); i++)
                make_file(files[i], "content", 0600);
        must(symlink("../out/file", "in/way-out") == 0, "in/way-out");
        copy_program("/bin/true", "in/program");
        copy_program("/bin/true", "out/program");
        copy_program("/bin/true", "server/pageserver");
}

static void describe_vm(struct vm *vm, const char *top)
{
        *vm = (struct vm){ .name = "vm", .machine.ndisks = 2 };
        snprintf(vm->machine.disk[0].path, PATH_MAX, "%s/out/disk", top);
        snprintf(vm->machine.disk[1].path, PATH_MAX, "%s/out/disk-ro", top);
        vm->machine.disk[1].read_only = true;
        vm->snapshot.path = (char *)"images/image";
}

static void enter(enum who who)
{
        static const enum sandbox_role role[WHO] = {
                [NAMELESS] = SANDBOX_VCPU, [LOOP] = SANDBOX_LOOP, [LOOP_IN] = SANDBOX_JOB,
                [PAGER] = SANDBOX_PAGER, [PAGER_IN] = SANDBOX_PAGER,
                [STARTER_IN] = SANDBOX_STARTER,
        };
        AUTO_FREE char *top = realpath(".", NULL);
        AUTO_FREE struct vm *vm = calloc(1, sizeof(*vm));
        struct confine confine = { 0 };
        struct sandbox_files *f;
        struct err e = { 0 };
        bool confined = who == LOOP_IN || who == PAGER_IN || who == STARTER_IN;
        int rc = confined ? confine_add(&confine, "in", &e) : 0;

        describe_vm(vm, top);
        if (rc == 0)
                rc = sandbox_files_new(&f, &e);
        if (rc == 0)
                sandbox_files_confine(f, &confine);
        if (rc == 0)
                rc = sandbox_files_settle(f, vm, &e);
        if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
                rc = sandbox_files_enter(f, role[who], &e);
        errno = -rc;
        must(rc == 0, e.text);
        sandbox_files_free(f);
        confine_fini(&confine);
}

static int outcome(enum who who, deed_fn *deed)
{
        int status = 0;
        pid_t child;

        make_files();
        child = fork();
        if (child == 0) {
                enter(who);
                _exit(deed() < 0 ? errno : 0);
        }
        CU_ASSERT_FATAL(child > 0 && waitpid(child, &status, 0) == child);
        if (!WIFEXITED(status))
                return -1;
        /* the kernel says either of what would move to another folder */
        return WEXITSTATUS(status) == EXDEV ? EACCES : WEXITSTATUS(status);
}

/* older kernels know less: then it is done, not refused */
static int expected(size_t i, enum who who)
{
        const int all[WHO] = { rows[i].nameless, rows[i].loop, rows[i].loop_in, rows[i].pager,
                               rows[i].pager_in, rows[i].pager };

        if (rows[i].deed == connects && landlock_abi() < 4)
                return 0;
        if (rows[i].deed == truncates_out && landlock_abi() < 3)
                return 0;
        return all[who];
}

static void deeds(enum who who)
{
        for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
                EXPECT_EQUAL(rows[i].name, outcome(who, rows[i].deed), expected(i, who));
}

static void nameless(void) { deeds(NAMELESS); }
static void loop(void) { deeds(LOOP); }
static void loop_in(void) { deeds(LOOP_IN); }
static void pager(void) { deeds(PAGER); }
static void pager_in(void) { deeds(PAGER_IN); }
static void starter(void) { deeds(STARTER_IN); }

/* Whoever put a script in the page server's place has it run what it likes. */
static void script(void)
{
        make_files();
        make_file("out/script", "#!/bin/sh\nexec out/program\n", 0700);
        must(rename("out/script", "server/script") == 0 && chmod("server/script", 0700) == 0,
             "script");
        setenv("SNAPBACK_PAGESERVER", "server/script", 1);
        CU_ASSERT_EQUAL(outcome(PAGER, runs_other), 0);
        CU_ASSERT_EQUAL(outcome(PAGER_IN, runs_other), 0);
        CU_ASSERT_EQUAL(outcome(PAGER_IN, writes_out), EACCES);
        setenv("SNAPBACK_PAGESERVER", "server/pageserver", 1);
}

static long unsettled_opens(void)
{
        struct sandbox_files *f;

        must(sandbox_files_new(&f, NULL) == 0 &&
             prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
             sandbox_files_enter(f, SANDBOX_LOOP, NULL) == 0, "enter");
        return reads_in();
}

static void unsettled(void)
{
        CU_ASSERT_EQUAL(outcome(LOOP, reads_in), 0);
        CU_ASSERT_EQUAL(outcome(LOOP, unsettled_opens), EACCES);
}

static const CU_TestInfo cases[] = {
        { "who works on descriptors names nothing", nameless },
        { "the loop executes nothing", loop },
        { "a confined job stays inside", loop_in },
        { "a pager starts page servers, nothing else", pager },
        { "a confined page server reads what it needs", pager_in },
        { "a starter is as a pager at first", starter },
        { "a script as page server runs others", script },
        { "before it is settled nothing is named", unsettled },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        char folder[] = "/tmp/sandbox-files-XXXXXX";
        int rc;

        if (sandbox_files_lack()) {
                printf("skipped: %s\n", sandbox_files_lack());
                return 77;
        }
        must(mkdtemp(folder) && chdir(folder) == 0, folder);
        setenv("VMM_RUNTIME_DIR", "run", 1);
        setenv("TMPDIR", "tmp", 1);
        setenv("SNAPBACK_PAGESERVER", "server/pageserver", 1);
        rc = suite_main("sandbox-files", cases);
        must(system("rm -rf in out images run tmp server") == 0 && rmdir(folder) == 0, folder);
        return rc;
}
