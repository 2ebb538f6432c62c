/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/stress/fake-store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/wire/fcregions.h"
#include "qcowstore/store.h"

/* how often a reader that hangs looks again */
#define MOMENT_US 1000
#define FAKE_MAGIC 0x65676d49656b6146ull

struct qs_image {
        int fd;
        uint64_t inode[QS_LAYERS_MAX];
        struct fake_image fake;
        struct qs_image_info info;
};

struct qs_reader {
        struct qs_image *image;
};

static uint64_t mix(uint64_t x)
{
        x ^= x >> 30;
        x *= 0xbf58476d1ce4e5b9ull;
        x ^= x >> 27;
        x *= 0x94d049bb133111ebull;
        return x ^ x >> 31;
}

int fake_image_file(const struct fake_image *image)
{
        int fd = memfd_create("fake-image", MFD_CLOEXEC);

        if (fd >= 0)
                fake_image_update(fd, image);
        return fd;
}

void fake_image_update(int fd, const struct fake_image *image)
{
        struct fake_image copy = *image;

        copy.magic = FAKE_MAGIC;

        int rc = io_pwrite_full(fd, &copy, sizeof(copy), 0);

        ASSERT(rc == 0);
}

/* zeros come in runs of four clusters, a third of all */
bool fake_is_zero(const struct fake_image *image, uint64_t cluster)
{
        return mix(image->seed + cluster / 4) % 3 == 0;
}

uint64_t fake_word(const struct fake_image *image, uint64_t gpa)
{
        if (fake_is_zero(image, gpa >> image->cluster_bits))
                return 0;
        return mix(image->seed ^ gpa) | 1;
}

bool fake_page_ok(const struct fake_image *image, uint64_t gpa, const volatile uint64_t *page)
{
        for (unsigned i = 0; i < FAKE_WORDS; i++) {
                if (page[i] != fake_word(image, gpa + i * 8))
                        return false;
        }
        return true;
}

/* what the file says now */
static struct fake_image look(int fd)
{
        struct fake_image now = { 0 };

        (void)io_pread_full(fd, &now, sizeof(now), 0);
        return now;
}

int qs_image_open_chain(const int *fds, size_t n, const char *path, const char *tag,
                        struct qs_image **ret, struct err *e)
{
        struct qs_image *im = calloc(1, sizeof(*im));
        struct stat st;

        ASSERT(im && n <= QS_LAYERS_MAX);
        for (size_t i = 0; i < n; i++) {
                int rc = fstat(fds[i], &st);

                ASSERT(rc == 0);
                im->inode[i] = st.st_ino;
        }
        while (im->fake = look(fds[0]), im->fake.opens_never)
                usleep(MOMENT_US);
        if (im->fake.magic != FAKE_MAGIC) {
                free(im);
                return err_msg(e, EBADMSG, "'%s' is no image", path);
        }
        im->fd = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
        im->info.layers = (unsigned)n;
        im->info.cluster_bits = im->fake.cluster_bits;
        im->info.disk_bytes = im->fake.disk_bytes;
        memcpy(im->info.identity, &im->fake.seed, sizeof(im->fake.seed));
        strcpy(im->info.tag, tag ? tag : "default");
        *ret = im;
        return 0;
}

int qs_image_open_path(const char *path, const struct qs_open_options *options,
                       struct qs_image **ret, struct err *e)
{
        AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return err_set(e, errno, "open '%s'", path);
        return qs_image_open_chain(&fd, 1, path, options ? options->tag : NULL, ret, e);
}

void qs_image_close(struct qs_image *image)
{
        if (!image)
                return;
        close(image->fd);
        free(image);
}

bool qs_image_same(const struct qs_image *a, const struct qs_image *b)
{
        return a->fake.seed == b->fake.seed && strcmp(a->info.tag, b->info.tag) == 0 &&
               memcmp(a->inode, b->inode, sizeof(a->inode)) == 0;
}

int qs_image_fd(const struct qs_image *image, unsigned layer)
{
        ASSERT(layer == 0);
        return image->fd;
}

const char *qs_image_name(const struct qs_image *image, unsigned layer)
{
        (void)image;
        (void)layer;
        return "fake image";
}

const struct qs_image_info *qs_image_info(const struct qs_image *image)
{
        return &image->info;
}

int qs_working_set_read(struct qs_image *image, struct qs_ram_range **ret, size_t *ret_n,
                        struct err *e)
{
        (void)image, (void)ret, (void)ret_n;
        return err_msg(e, ENOENT, "a made-up image has no working set");
}

void qs_read_soon(struct qs_reader *reader, uint64_t gpa, uint64_t bytes)
{
        (void)reader, (void)gpa, (void)bytes;
}

int qs_reader_new(struct qs_image *image, struct qs_reader **ret, struct err *e)
{
        (void)e;
        *ret = calloc(1, sizeof(**ret));
        ASSERT(*ret);
        (*ret)->image = image;
        return 0;
}

void qs_reader_free(struct qs_reader *reader)
{
        free(reader);
}

int qs_section_read(struct qs_reader *reader, const char *name, void **ret_data,
                    size_t *ret_bytes, struct err *e)
{
        const struct fake_image *fake = &reader->image->fake;

        if (strcmp(name, FC_SECTION_REGIONS) != 0 || fake->section_bytes == 0)
                return err_msg(e, ENOENT, "no section '%s'", name);
        ASSERT(fake->section_bytes <= FAKE_SECTION_MAX);
        *ret_data = malloc(fake->section_bytes);
        ASSERT(*ret_data);
        memcpy(*ret_data, fake->section, fake->section_bytes);
        *ret_bytes = fake->section_bytes;
        return 0;
}

int qs_cluster_kind(struct qs_reader *reader, uint64_t cluster, enum qs_kind *ret, struct err *e)
{
        (void)e;
        *ret = fake_is_zero(&reader->image->fake, cluster) ? QS_ZERO : QS_RAW;
        return 0;
}

int qs_zero_run(struct qs_reader *reader, uint64_t cluster, uint64_t max, uint64_t *ret,
                struct err *e)
{
        uint64_t n = 0;

        (void)e;
        while (n < max && fake_is_zero(&reader->image->fake, cluster + n))
                n++;
        *ret = n;
        return 0;
}

int qs_cluster_read(struct qs_reader *reader, uint64_t cluster, void *buf, struct err *e)
{
        struct qs_image *im = reader->image;
        struct fake_image now;
        uint64_t *word = buf;
        uint64_t bytes = 1ull << im->fake.cluster_bits;

        while (now = look(im->fd), now.hangs)
                usleep(MOMENT_US);
        ASSERT(now.magic == FAKE_MAGIC);
        ASSERT(cluster * bytes < im->fake.disk_bytes);
        if (now.slow_us)
                usleep(now.slow_us);
        for (uint32_t i = 0; i < now.bads; i++) {
                if (now.bad[i] == cluster) {
                        memset(buf, 0xee, bytes);
                        return err_msg(e, EBADMSG, "cluster %llu is bad",
                                       (unsigned long long)cluster);
                }
        }
        for (uint64_t i = 0; i < bytes / 8; i++)
                word[i] = fake_word(&im->fake, cluster * bytes + i * 8);
        return 0;
}

int qs_extent_at(struct qs_reader *reader, uint64_t cluster, uint64_t max,
                 enum qs_kind *ret_kind, uint64_t *ret_n, struct err *e)
{
        const struct fake_image *fake = &reader->image->fake;
        bool zero = fake_is_zero(fake, cluster);
        uint64_t n = 1;

        (void)e;
        while (n < max && fake_is_zero(fake, cluster + n) == zero)
                n++;
        *ret_kind = zero ? QS_ZERO : fake->packed ? QS_PACKED : QS_RAW;
        *ret_n = n;
        return 0;
}

int qs_clusters_read(struct qs_reader *reader, uint64_t cluster, uint64_t n, void *buf,
                     struct err *e)
{
        uint64_t bytes = 1ull << reader->image->fake.cluster_bits;

        for (uint64_t i = 0; i < n; i++) {
                int rc = qs_cluster_read(reader, cluster + i, (char *)buf + i * bytes, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}

/* whole clusters, but for what lies behind the end of the disk */
int qs_span_read(struct qs_reader *reader, uint64_t gpa, uint64_t bytes, void *buf,
                 bool *ret_zero, struct err *e)
{
        const struct fake_image *fake = &reader->image->fake;
        uint64_t cluster_bytes = 1ull << fake->cluster_bits;

        *ret_zero = true;
        memset(buf, 0, bytes);
        for (uint64_t at = 0; at < bytes && gpa + at < fake->disk_bytes; at += cluster_bytes) {
                uint64_t cluster = (gpa + at) >> fake->cluster_bits;

                if (fake_is_zero(fake, cluster))
                        continue;
                *ret_zero = false;

                int rc = qs_cluster_read(reader, cluster, (char *)buf + at, e);

                if (rc < 0)
                        return rc;
        }
        return 0;
}
