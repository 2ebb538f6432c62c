/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a long chain is opened with few calls for each of its files, at once or
 *       later, and nobody reads anything else through it than if it had been opened file by
 *       file (INV-FOUND, INV-SETTLED); what is wrong with a parent is said with its name.
 * Method: a chain of 40 whose calls are counted by the linker's --wrap; parents missing,
 *       exchanged, changed and locked before it is opened or between finding and settling. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "tests/unit/store-family.h"
#include "tests/unit/suite.h"

#define LAYERS 40
#define PAGES (FAMILY_RAM_BYTES / 4096)
/* of QEMU: used for writing */
#define WRITE_BYTE 101

static _Atomic unsigned calls;

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t at);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t at);
int __real_fcntl64(int fd, int cmd, ...);
int __wrap_fcntl64(int fd, int cmd, ...);
int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __real_openat64(int folder, const char *name, int flags, ...);
int __wrap_openat64(int folder, const char *name, int flags, ...);
int __real_close(int fd);
int __wrap_close(int fd);

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t at)
{
        atomic_fetch_add(&calls, 1);
        return __real_pread64(fd, buf, n, at);
}

int __wrap_fcntl64(int fd, int cmd, ...)
{
        va_list ap;

        va_start(ap, cmd);

        void *arg = va_arg(ap, void *);

        va_end(ap);
        atomic_fetch_add(&calls, 1);
        return __real_fcntl64(fd, cmd, arg);
}

int __wrap_fstat64(int fd, struct stat *st)
{
        atomic_fetch_add(&calls, 1);
        return __real_fstat64(fd, st);
}

/* nobody here creates a file by it */
int __wrap_openat64(int folder, const char *name, int flags, ...)
{
        atomic_fetch_add(&calls, 1);
        return __real_openat64(folder, name, flags);
}

int __wrap_close(int fd)
{
        atomic_fetch_add(&calls, 1);
        return __real_close(fd);
}

/* Layer 0 is the top; layer i is the file "i". */
struct line {
        char folder[KIT_PATH_MAX];
        char path[LAYERS][KIT_PATH_MAX];
        int fds[LAYERS];
        uint8_t *model;
};

static void save_layer(struct line *l, unsigned i)
{
        struct kit_ram ram = family_ram(1u << i % PAGES, i + 1);
        char name[8];

        snprintf(name, sizeof(name), "%u", i);
        family_save(kit_path(l->folder, name, l->path[i]), &ram, 12);
        if (i < LAYERS - 1) {
                struct kin kin = family_kin(l->path[i + 1]);

                snprintf(name, sizeof(name), "%u", i + 1);
                family_name_parent(l->path[i], name, "qcow2", &kin);
        }
        memcpy(l->model + i % PAGES * 4096, ram.bytes + i % PAGES * 4096, 4096);
        free(ram.bytes);
}

static void begin(struct line *l)
{
        l->model = calloc(1, FAMILY_RAM_BYTES);
        ASSERT(l->model);
        kit_folder(l->folder);
        for (unsigned i = LAYERS; i-- > 0;)
                save_layer(l, i);
        for (unsigned i = 0; i < LAYERS; i++)
                l->fds[i] = kit_open(l->path[i]);
}

static void end(struct line *l)
{
        for (unsigned i = 0; i < LAYERS; i++) {
                close(l->fds[i]);
                unlink(l->path[i]);
        }
        free(l->model);
        CU_ASSERT(kit_gone(l->folder));
}

static int open_later(const struct line *l, struct qs_image **ret, struct err *e)
{
        const struct qs_open_options o = { .parents_later = true };

        return qs_image_open_path(l->path[0], &o, ret, e);
}

static struct qs_image *found(const struct line *l)
{
        struct qs_image *image = NULL;
        struct err e = { 0 };

        CU_ASSERT_EQUAL_FATAL(open_later(l, &image, &e), 0);
        CU_ASSERT_EQUAL(qs_image_info(image)->layers, LAYERS);
        return image;
}

/* Finding a file, opening one whose place is known, looking for a page in one. */
static void few_calls(void)
{
        struct line l;
        struct qs_image *image = NULL;
        struct qs_reader *r;
        uint8_t buf[4096];

        begin(&l);
        calls = 0;
        image = found(&l);
        CU_ASSERT(calls > LAYERS);              /* they are counted at all */
        CU_ASSERT(calls <= 40 + 4 * LAYERS);
        qs_image_close(image);

        calls = 0;
        CU_ASSERT_EQUAL_FATAL(qs_image_open_chain(l.fds, LAYERS, "x", NULL, &image, NULL), 0);
CU_ASSERT(calls <= 20 + 15 * LAYERS);
        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        calls = 0;
        CU_ASSERT_EQUAL(qs_cluster_read(r, PAGES - 1, buf, NULL), 0);
CU_ASSERT(calls <= 20 + 4 * PAGES);
        qs_reader_free(r);
        qs_image_close(image);
        end(&l);
}

static void reads_alike(void)
{
        struct line l;
        struct qs_image *now = NULL;
        struct qs_image *given = NULL;

        begin(&l);

        struct qs_image *later = found(&l);

        for (unsigned i = 0; i < LAYERS; i++) {
                char name[8];

                snprintf(name, sizeof(name), "%u", i);
                if (i > 0)
                        CU_ASSERT_STRING_EQUAL(qs_image_name(later, i), name);
                CU_ASSERT(qs_image_fd(later, i) >= 0);
        }
        CU_ASSERT_EQUAL(qs_image_settle(later, NULL), 0);
        CU_ASSERT_EQUAL(qs_image_settle(later, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_path(l.path[0], NULL, &now, NULL), 0);
        CU_ASSERT_EQUAL(qs_image_settle(now, NULL), 0);
        CU_ASSERT_EQUAL_FATAL(qs_image_open_chain(l.fds, LAYERS, "x", NULL, &given, NULL), 0);
        CU_ASSERT(qs_image_same(later, now) && qs_image_same(later, given));
        CU_ASSERT_EQUAL(memcmp(qs_image_info(later)->identity, qs_image_info(now)->identity, 16),
                        0);
        CU_ASSERT_EQUAL(kit_compare(later, l.model), 0);
        CU_ASSERT_EQUAL(kit_compare(now, l.model), 0);
        CU_ASSERT_EQUAL(kit_compare(given, l.model), 0);
        qs_image_close(later);
        qs_image_close(now);
        qs_image_close(given);
        end(&l);
}

static void sections_before(void)
{
        struct line l;
        struct qs_reader *r;
        void *data = NULL;
        size_t bytes;

        begin(&l);

        struct qs_image *image = found(&l);

        CU_ASSERT_EQUAL_FATAL(qs_reader_new(image, &r, NULL), 0);
        CU_ASSERT_EQUAL(qs_section_read(r, "META", &data, &bytes, NULL), 0);
        CU_ASSERT_STRING_EQUAL(data, kit_meta);
        free(data);
        qs_reader_free(r);
        qs_image_close(image);
        end(&l);
}

static void *settle(void *image)
{
        return qs_image_settle(image, NULL) == 0 ? image : NULL;
}

static void settled_once(void)
{
        struct line l;
        pthread_t thread[4];

        begin(&l);

        struct qs_image *image = found(&l);

        for (size_t i = 0; i < ARRAY_SIZE(thread); i++)
                CU_ASSERT_EQUAL_FATAL(pthread_create(&thread[i], NULL, settle, image), 0);
        for (size_t i = 0; i < ARRAY_SIZE(thread); i++) {
                void *well = NULL;

                pthread_join(thread[i], &well);
                CU_ASSERT_PTR_EQUAL(well, image);
        }
        CU_ASSERT_EQUAL(kit_compare(image, l.model), 0);
        qs_image_close(image);
        end(&l);
}

/* a settled parent is locked again as any other */
static void yielded(void)
{
        struct line l;
        struct err e = { 0 };

        begin(&l);

        struct qs_image *image = found(&l);

        CU_ASSERT_EQUAL_FATAL(qs_image_settle(image, NULL), 0);
        qs_image_yield(image);
        CU_ASSERT_EQUAL(qs_image_regain(image, &e), 0);
        CU_ASSERT_EQUAL(kit_compare(image, l.model), 0);
        qs_image_close(image);
        end(&l);
}

static void says(int rc, int want, const struct err *e, const char *text)
{
        CU_ASSERT_EQUAL(rc, want);
        CU_ASSERT_PTR_NOT_NULL(strstr(e->text, text));
        if (rc != want || !strstr(e->text, text))
                fprintf(stderr, "%d, not %d: %s\n", rc, want, e->text);
}

/* by name and later, by name, and by descriptors of what has the names now */
static void all_say(const struct line *l, int want, const char *text)
{
        struct qs_image *image = NULL;
        int fds[LAYERS];
        struct err e = { 0 };

        says(open_later(l, &image, &e), want, &e, text);
        says(qs_image_open_path(l->path[0], NULL, &image, &e), want, &e, text);
        for (unsigned i = 0; i < LAYERS; i++)
                fds[i] = open(l->path[i], O_RDONLY | O_CLOEXEC);
        if (want != -ENOENT)
                says(qs_image_open_chain(fds, LAYERS, "x", NULL, &image, &e), want, &e, text);
        for (unsigned i = 0; i < LAYERS; i++)
                close(fds[i]);
}

static void missing(void)
{
        struct line l;

        begin(&l);
        unlink(l.path[17]);
        all_say(&l, -ENOENT, "parent '16': open its backing file '17'");
        end(&l);
}

static void exchanged(void)
{
        struct line l;
        struct kit_ram other = family_ram(1, 77);

        begin(&l);
        unlink(l.path[17]);
        family_save(l.path[17], &other, 12);
        all_say(&l, -EBADMSG, "its backing file '17' is not the image it was made from");
        free(other.bytes);
        end(&l);
}

/* makes the first bytes of the table of sections others, or those again */
static void spoil(const char *path)
{
        AUTO_FD fd = open(path, O_RDWR | O_CLOEXEC);
        uint8_t *file = malloc(1 << 20);
        ssize_t n = pread(fd, file, 1 << 20, 0);
        ssize_t at = 0;

        ASSERT(file && n > 8);
        while (at < n && memcmp(file + at, "SNAPBACK", 8) != 0 && memcmp(file + at, "sNAPBACK", 8))
                at++;
        ASSERT(at < n);
        file[at] ^= 0x20;

        ssize_t put = pwrite(fd, file + at, 1, at);

        ASSERT(put == 1);
        free(file);
}

/* What is wrong first, in the order of the chain, is said, whoever opened it sooner. */
static void damaged(void)
{
        struct line l;
        struct qs_image *image = NULL;
        struct err e = { 0 };

        begin(&l);

        struct qs_image *later = found(&l);

        spoil(l.path[31]);
        spoil(l.path[9]);
        spoil(l.path[30]);
        says(qs_image_open_chain(l.fds, LAYERS, "x", NULL, &image, &e), -EBADMSG, &e,
             "image 'x': parent '8': parent '9': the section table");
        says(qs_image_settle(later, &e), -EBADMSG, &e, "parent '9': the section table");
        spoil(l.path[9]);
        says(qs_image_settle(later, &e), -EBADMSG, &e, "parent '30': the section table");
        spoil(l.path[31]);
        spoil(l.path[30]);
        CU_ASSERT_EQUAL(qs_image_settle(later, NULL), 0);
        CU_ASSERT_EQUAL(kit_compare(later, l.model), 0);
        qs_image_close(later);
        end(&l);
}

static void written_to(void)
{
        struct line l;
        struct qs_image *image = NULL;
        struct err e = { 0 };
        struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = WRITE_BYTE,
                              .l_len = 1 };

        begin(&l);

        struct qs_image *later = found(&l);
        AUTO_FD writer = open(l.path[20], O_RDWR | O_CLOEXEC);

        if (fcntl(writer, F_OFD_SETLK, &lock) == 0) {
                says(qs_image_open_chain(l.fds, LAYERS, "x", NULL, &image, &e), -EBUSY, &e,
                     "parent '20': a program (QEMU?) has it open for writing");
                says(qs_image_settle(later, &e), -EBUSY, &e, "parent '20': a program (QEMU?)");
        }
        close(fd_take(&writer));
        CU_ASSERT_EQUAL(qs_image_settle(later, NULL), 0);

        /* and now nobody may */
        AUTO_FD next = open(l.path[20], O_RDWR | O_CLOEXEC);

        lock.l_type = F_WRLCK;
        lock.l_start = 201;
        CU_ASSERT(fcntl(next, F_OFD_SETLK, &lock) < 0);
        qs_image_close(later);
        end(&l);
}

/* the file that was found, given another parent before it is settled */
static void renamed_later(void)
{
        struct line l;
        struct err e = { 0 };

        begin(&l);

        struct qs_image *later = found(&l);
        struct kin kin = family_kin(l.path[6]);

        family_name_parent(l.path[5], "7", "qcow2", &kin);
        says(qs_image_settle(later, &e), -EBADMSG, &e, "parent '5' was changed");
        qs_image_close(later);
        end(&l);
}

static const CU_TestInfo cases[] = {
        { "calls for each file", few_calls },
        { "found, given or opened one by one", reads_alike },
        { "sections before parents are settled", sections_before },
        { "settled by several threads", settled_once },
        { "yielded and regained", yielded },
        { "a parent is missing", missing },
        { "a parent was exchanged", exchanged },
        { "parents are damaged", damaged },
        { "a parent is written to", written_to },
        { "a parent names another one later", renamed_later },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-later", cases);
}
