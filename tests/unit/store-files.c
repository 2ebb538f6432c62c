/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a name is given only to a complete file, an existing one is never lost
 *       by accident, errors name file and remedy, and nothing is left behind.
 * Method: real files in a fresh folder that must be empty afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/publish.h"
#include "tests/unit/store-kit.h"
#include "tests/unit/store-ram.h"
#include "tests/unit/suite.h"

#define RAM_BYTES (4u << 20)

static struct kit_ram make_ram(void)
{
        struct kit_ram ram = { .bytes = calloc(1, RAM_BYTES), .ranges = 1,
                               .range = { { 0, RAM_BYTES } } };

        ASSERT(ram.bytes);
        store_ram_fill(ram.bytes, RAM_BYTES, 3);
        return ram;
}

static const struct qs_writer_options base = {
        .cluster_bits = 14, .compress = QS_COMPRESS_ZSTD, .zstd_level = 1, .threads = 2,
        .disk_bytes = RAM_BYTES,
};

static void write_text(const char *path, const char *text)
{
        AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

        ASSERT(fd >= 0);

        int rc = io_pwrite_full(fd, text, strlen(text), 0);

        ASSERT(rc == 0);
}

static void name_exists(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct qs_writer_options o = base;
        struct err e = { 0 };
        struct stat st;

        kit_folder(folder);
        write_text(kit_path(folder, "image", path), "old");
        CU_ASSERT_EQUAL(kit_save(path, &o, &ram, &e), -EEXIST);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "--force"));
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT_EQUAL(st.st_size, 3);
        o.force = true;
        CU_ASSERT_EQUAL(kit_save(path, &o, &ram, &e), 0);
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT(st.st_size > 3 && (st.st_mode & 07777) == 0600);
        unlink(path);

        /* only regular files are replaced */
        CU_ASSERT_EQUAL(mkdir(path, 0700), 0);
        CU_ASSERT_EQUAL(kit_save(path, &o, &ram, &e), -EEXIST);
        rmdir(path);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* somebody takes the name while we write */
static void name_taken_meanwhile(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer *w;
        struct stat st;
        struct err e = { 0 };

        kit_folder(folder);
        kit_path(folder, "image", path);
        CU_ASSERT_EQUAL_FATAL(qs_writer_new(path, &base, &w, NULL), 0);
        CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
        write_text(path, "other");
        CU_ASSERT_EQUAL(qs_writer_publish(w, &e), -EEXIST);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "--force"));
        qs_writer_free(w);
        CU_ASSERT_EQUAL(stat(path, &st), 0);
        CU_ASSERT_EQUAL(st.st_size, 5);
        unlink(path);
        CU_ASSERT(kit_gone(folder));
}

static void bad_names(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct err e = { 0 };

        kit_folder(folder);
        CU_ASSERT_EQUAL(kit_save(kit_path(folder, "no/image", path), &base, &ram, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
        CU_ASSERT_EQUAL(kit_save(kit_path(folder, "", path), &base, &ram, &e), -EINVAL);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const struct {
        const char *name;
        struct qs_writer_options o;
} options[] = {
        { "cluster 2 KiB",  { .cluster_bits = 11, .disk_bytes = 4096 } },
        { "cluster 4 MiB",  { .cluster_bits = 22, .disk_bytes = 4096 } },
        { "no memory",      { .cluster_bits = 12 } },
        { "half a page",    { .cluster_bits = 12, .disk_bytes = 2048 } },
        { "beyond 64 TiB",  { .cluster_bits = 21, .disk_bytes = QS_DISK_BYTES_MAX + 4096 } },
        { "L1 beyond QEMU", { .cluster_bits = 12, .disk_bytes = 1ull << 43 } },
        { "level 0",        { .cluster_bits = 12, .disk_bytes = 4096,
                              .compress = QS_COMPRESS_ZSTD } },
        { "level 20",       { .cluster_bits = 12, .disk_bytes = 4096,
                              .compress = QS_COMPRESS_ZSTD, .zstd_level = 20 } },
        { "tag",            { .cluster_bits = 12, .disk_bytes = 4096, .tag = "a\nb" } },
};

static void bad_options(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct qs_writer *w;
        struct err e;

        kit_folder(folder);
        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                e.text[0] = '\0';
                CU_ASSERT_EQUAL(qs_writer_new(kit_path(folder, "image", path), &options[i].o, &w,
                                              &e), -EINVAL);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
        }
        CU_ASSERT(kit_gone(folder));
}

static void bad_ranges(void)
{
        static const struct qs_ram_range wrong[][2] = {
                { { 0, 100 }, { 0 } },
                { { 4096, 4096 }, { 0, 4096 } },
                { { 0, 8192 }, { 4096, 4096 } },
                { { RAM_BYTES, 4096 }, { 0 } },
                { { 4096, UINT64_MAX - 4095 }, { 0 } },
                { { 0, 0 }, { 0 } },
        };
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct qs_ram_source source = kit_source(&ram);

        kit_folder(folder);
        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                struct qs_writer *w;

                CU_ASSERT_EQUAL_FATAL(qs_writer_new(kit_path(folder, "image", path), &base, &w,
                                                    NULL), 0);
                CU_ASSERT_EQUAL(qs_writer_ram(w, wrong[i], 1 + (wrong[i][1].bytes > 0), &source,
                                              NULL, NULL, NULL), -EINVAL);
                qs_writer_free(w);
        }
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* The limit of the file size stands for a full disk: at every size a sentence
 * and an empty folder. */
static void disk_full(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct rlimit old;
        unsigned failed = 0;

        kit_folder(folder);
        kit_path(folder, "image", path);
        signal(SIGXFSZ, SIG_IGN);
        getrlimit(RLIMIT_FSIZE, &old);
        for (rlim_t limit = 0; limit < RAM_BYTES; limit += 100001) {
                struct rlimit small = { limit, old.rlim_max };
                struct err e = { 0 };

                setrlimit(RLIMIT_FSIZE, &small);
                int rc = kit_save(path, &base, &ram, &e);

                setrlimit(RLIMIT_FSIZE, &old);
                if (rc == 0) {
                        unlink(path);
                        continue;
                }
                failed++;
                CU_ASSERT_EQUAL(rc, -EFBIG);
                CU_ASSERT_PTR_NOT_NULL(strstr(e.text, path));
                CU_ASSERT_NOT_EQUAL(access(path, F_OK), 0);
        }
        CU_ASSERT(failed > 5);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static struct err source_error = { -EIO, "guest memory is gone" };

static const void *failing_span(void *ctx, uint64_t gpa, size_t bytes, void *buf,
                                struct qs_span *ret, struct err *e)
{
        struct kit_ram *ram = ctx;

        (void)bytes;
        (void)buf;
        (void)ret;
        if (gpa < RAM_BYTES / 2)
                return ram->bytes + gpa;
        *e = source_error;
        return NULL;
}

static void source_fails(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct qs_ram_source source = { .span = failing_span, .ctx = &ram };
        struct qs_writer *w;
        struct err e = { 0 };

        kit_folder(folder);
        CU_ASSERT_EQUAL_FATAL(qs_writer_new(kit_path(folder, "image", path), &base, &w, NULL), 0);
        CU_ASSERT_EQUAL(qs_writer_ram(w, ram.range, 1, &source, NULL, NULL, &e), -EIO);
        CU_ASSERT_STRING_EQUAL(e.text, source_error.text);
        qs_writer_free(w);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static void wrong_tag(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct qs_image *image;
        struct qs_snapshot_info *list;
        size_t n;
        struct err e = { 0 };

        kit_folder(folder);
        CU_ASSERT_EQUAL_FATAL(kit_save(kit_path(folder, "image", path), &base, &ram, NULL), 0);

        AUTO_FD fd = kit_open(path);

        CU_ASSERT_EQUAL(qs_image_open(fd, path, "other", &image, &e), -ENOENT);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "'other'"));
        CU_ASSERT_EQUAL_FATAL(qs_snapshot_list(fd, path, &list, &n, NULL), 0);
        CU_ASSERT(n == 1 && list[0].is_default);
        CU_ASSERT_STRING_EQUAL(list[0].tag, "default");
        CU_ASSERT_STRING_EQUAL(list[0].id, "1");
        free(list);
        unlink(path);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

/* What a QEMU that writes holds, and what it holds when it reads. */
static void qemu_locks(void)
{
        char folder[KIT_PATH_MAX];
        char path[KIT_PATH_MAX];
        struct kit_ram ram = make_ram();
        struct qs_image *image;
        struct flock byte = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_len = 1 };
        struct err e = { 0 };

        kit_folder(folder);
        CU_ASSERT_EQUAL_FATAL(kit_save(kit_path(folder, "image", path), &base, &ram, NULL), 0);

        AUTO_FD fd = kit_open(path);
        AUTO_FD qemu = kit_open(path);

        byte.l_start = 101;
        CU_ASSERT_EQUAL(fcntl(qemu, F_OFD_SETLK, &byte), 0);
        CU_ASSERT_EQUAL(qs_image_open(fd, path, NULL, &image, &e), -EBUSY);
        CU_ASSERT_PTR_NOT_NULL(strstr(e.text, "QEMU"));
        byte.l_type = F_UNLCK;
        CU_ASSERT_EQUAL(fcntl(qemu, F_OFD_SETLK, &byte), 0);

        byte.l_type = F_RDLCK;
        byte.l_start = 100;
        CU_ASSERT_EQUAL(fcntl(qemu, F_OFD_SETLK, &byte), 0);
        CU_ASSERT_EQUAL(qs_image_open(fd, path, NULL, &image, &e), 0);

        /* a QEMU that wants to write asks whether all share "write" */
        byte.l_type = F_WRLCK;
        byte.l_start = 201;
        CU_ASSERT_EQUAL(fcntl(qemu, F_OFD_GETLK, &byte), 0);
        CU_ASSERT_NOT_EQUAL(byte.l_type, F_UNLCK);
        qs_image_close(image);
        unlink(path);
        free(ram.bytes);
        CU_ASSERT(kit_gone(folder));
}

static const CU_TestInfo cases[] = {
        { "an existing name", name_exists },
        { "a name taken meanwhile", name_taken_meanwhile },
        { "bad names", bad_names },
        { "bad options", bad_options },
        { "bad ranges", bad_ranges },
        { "a full disk", disk_full },
        { "the source of memory fails", source_fails },
        { "tags", wrong_tag },
        { "QEMU's locks", qemu_locks },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("store-files", cases);
}
