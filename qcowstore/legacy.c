/* SPDX-License-Identifier: Apache-2.0 */
#include "qcowstore/legacy.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/auto.h"
#include "common/bytes.h"
#include "common/io.h"
#include "common/lock.h"
#include "qcowstore/image-priv.h"
#include "qcowstore/imglock.h"

#define MAGIC 0x514649fbu
#define PROBE_BYTES 48u
#define CRYPT_AES 1u

/* QCOW 1 has it elsewhere than QCOW2 */
static uint32_t crypt_method(const uint8_t *header)
{
        return get_be32(header + (get_be32(header + 4) == 1 ? 36 : 32));
}

static bool read_probe(int fd, uint8_t header[PROBE_BYTES])
{
        return io_pread_full(fd, header, PROBE_BYTES, 0) == 0 && get_be32(header) == MAGIC;
}

bool legacy_wanted(int fd)
{
        uint8_t header[PROBE_BYTES];

        if (!read_probe(fd, header))
                return false;

        uint32_t version = get_be32(header + 4);

        return version == 1 || (version <= 3 && crypt_method(header) == CRYPT_AES);
}

#ifdef HAVE_QCOW

#include <libqcow.h>

#define QCOW_SONAME "libqcow.so.1"
/* what a unit of such an image is, whatever its clusters are */
#define UNIT_BITS 16u

struct qcow_table {
        __typeof__(libqcow_file_initialize) *initialize;
        __typeof__(libqcow_file_free) *free;
        __typeof__(libqcow_file_set_utf8_password) *set_password;
        __typeof__(libqcow_file_open) *open;
        __typeof__(libqcow_file_get_media_size) *media_size;
        __typeof__(libqcow_file_read_buffer_at_offset) *read;
        __typeof__(libqcow_error_sprint) *sprint;
        __typeof__(libqcow_error_free) *error_free;
};

struct legacy {
        /* constant after it is open */
        struct qcow_table lib;
        uint64_t bytes;
        struct lock lock;
        libqcow_file_t *file GUARDED_BY(lock);
};

static int load_library(struct qcow_table *t, struct err *e)
{
        void *lib = dlopen(QCOW_SONAME, RTLD_NOW);

        if (!lib)
                return err_msg(e, ENOTSUP, "files of this age need %s: install libqcow1 or convert "
                               "it with 'qemu-img convert'", QCOW_SONAME);

        const struct {
                const char *name;
                void **slot;
        } symbols[] = {
                { "libqcow_file_initialize", (void **)&t->initialize },
                { "libqcow_file_free", (void **)&t->free },
                { "libqcow_file_set_utf8_password", (void **)&t->set_password },
                { "libqcow_file_open", (void **)&t->open },
                { "libqcow_file_get_media_size", (void **)&t->media_size },
                { "libqcow_file_read_buffer_at_offset", (void **)&t->read },
                { "libqcow_error_sprint", (void **)&t->sprint },
                { "libqcow_error_free", (void **)&t->error_free },
        };

        for (size_t i = 0; i < ARRAY_SIZE(symbols); i++) {
                *symbols[i].slot = dlsym(lib, symbols[i].name);
                if (!*symbols[i].slot)
                        return err_msg(e, ENOTSUP, "%s lacks %s", QCOW_SONAME, symbols[i].name);
        }
        return 0;
}

/* libqcow's sentence; it is freed */
static int failed(const struct legacy *l, libqcow_error_t **error, const char *what,
                  struct err *e)
{
        char text[256] = "";

        if (*error)
                l->lib.sprint(*error, text, sizeof(text));
        l->lib.error_free(error);
        text[strcspn(text, "\n")] = '\0';
        return err_msg(e, EBADMSG, "libqcow cannot %s: %s", what,
                       text[0] ? text : "no reason given");
}

static int open_locked(struct legacy *l, int fd, const char *passphrase, struct err *e)
        REQUIRES(l->lock);

static int open_locked(struct legacy *l, int fd, const char *passphrase, struct err *e)
{
        libqcow_error_t *error = NULL;
        char name[32];
        size64_t bytes = 0;

        snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
        if (l->lib.initialize(&l->file, &error) != 1 ||
            (passphrase && l->lib.set_password(l->file, (const uint8_t *)passphrase,
                                               strlen(passphrase), &error) != 1) ||
            l->lib.open(l->file, name, LIBQCOW_OPEN_READ, &error) != 1 ||
            l->lib.media_size(l->file, &bytes, &error) != 1)
                return failed(l, &error, "open it", e);
        l->bytes = bytes;
        return 0;
}

static int open_file(struct legacy *l, int fd, const char *passphrase, struct err *e)
{
        lock_acquire(&l->lock);

        int rc = open_locked(l, fd, passphrase, e);

        lock_release(&l->lock);
        return rc;
}

void legacy_close(struct legacy *l)
{
        if (!l)
                return;
        lock_acquire(&l->lock);
        if (l->file)
                l->lib.free(&l->file, NULL);
        lock_release(&l->lock);
        lock_fini(&l->lock);
        free(l);
}

static int read_locked(struct legacy *l, uint64_t offset, uint8_t *buf, size_t bytes,
                       struct err *e) REQUIRES(l->lock);

static int read_locked(struct legacy *l, uint64_t offset, uint8_t *buf, size_t bytes,
                       struct err *e)
{
        while (bytes > 0) {
                libqcow_error_t *error = NULL;
                ssize_t n = l->lib.read(l->file, buf, bytes, (off64_t)offset, &error);

                if (n <= 0)
                        return failed(l, &error, "read it", e);
                buf += n;
                offset += (uint64_t)n;
                bytes -= (size_t)n;
        }
        return 0;
}

int legacy_read(struct legacy *l, uint64_t offset, void *buf, size_t bytes, struct err *e)
{
        size_t there = MIN(bytes, l->bytes - MIN(offset, l->bytes));

        memset((uint8_t *)buf + there, 0, bytes - there);
        lock_acquire(&l->lock);

        int rc = read_locked(l, offset, buf, there, e);

        lock_release(&l->lock);
        return rc;
}

static int new_legacy(int fd, const char *passphrase, struct legacy **ret, struct err *e)
{
        struct legacy *l = calloc(1, sizeof(*l));

        if (!l)
                return err_set(e, ENOMEM, "open");
        lock_init(&l->lock);
        *ret = l;

        int rc = load_library(&l->lib, e);

        return rc < 0 ? rc : open_file(l, fd, passphrase, e);
}

/* Nothing is known of it but its size. */
static int open_version_1(struct qs_image *m, int fd, const char *path, const char *passphrase,
                          struct err *e)
{
        struct stat st;

        m->path = strdup(path);
        m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        if (!m->path || m->fd < 0 || fstat(m->fd, &st) < 0)
                return err_set(e, errno, "open");

        int rc = imglock_read(m->fd, e);

        if (rc == 0)
                rc = new_legacy(m->fd, passphrase, &m->legacy, e);
        if (rc < 0)
                return rc;
        if (m->legacy->bytes > QS_DISK_BYTES_MAX)
                return err_msg(e, ENOTSUP, "a disk of more than 64 TiB is not supported");
        m->disk_bytes = m->legacy->bytes;
        m->cluster_bytes = 1ull << UNIT_BITS;
        m->unit_bits = UNIT_BITS;
        m->units = layout_clusters(m->disk_bytes, UNIT_BITS);
        m->info.cluster_bits = UNIT_BITS;
        m->info.disk_bytes = m->disk_bytes;
        m->info.file_bytes = (uint64_t)st.st_size;
        m->info.layers = 1;
        return 0;
}

static int open_encrypted(struct qs_image *m, int fd, const char *path, const char *passphrase,
                          struct err *e)
{
        int rc = image_open_tables(m, fd, path, e);

        if (rc == 0 && m->hdr.extended_l2)
                rc = err_msg(e, ENOTSUP, "extended L2 entries are not supported with encryption");
        if (rc == 0)
                rc = image_open_native(m, NULL, e);
        if (rc == 0)
                rc = new_legacy(m->fd, passphrase, &m->legacy, e);
        if (rc == 0 && m->legacy->bytes != m->disk_bytes)
                rc = err_msg(e, EBADMSG, "libqcow sees another size of disk");
        return rc;
}

static int open_image(int fd, const char *path, uint32_t version, const char *passphrase,
                      struct qs_image **ret, struct err *e)
{
        struct qs_image *m = calloc(1, sizeof(*m));

        if (!m)
                return err_set(e, ENOMEM, "open");
        m->fd = -1;

        int rc = version == 1 ? open_version_1(m, fd, path, passphrase, e)
                              : open_encrypted(m, fd, path, passphrase, e);

        if (rc < 0) {
                qs_image_close(m);
                return rc;
        }
        *ret = m;
        return 0;
}

#else

void legacy_close(struct legacy *l)
{
        ASSERT(!l);
}

int legacy_read(struct legacy *l, uint64_t offset, void *buf, size_t bytes, struct err *e)
{
        (void)l;
        (void)offset;
        (void)buf;
        (void)bytes;
        return err_msg(e, ENOTSUP, "no libqcow");
}

static int open_image(int fd, const char *path, uint32_t version, const char *passphrase,
                      struct qs_image **ret, struct err *e)
{
        (void)fd;
        (void)path;
        (void)version;
        (void)passphrase;
        (void)ret;
        return err_msg(e, ENOTSUP, "this snapback was built without libqcow, which reads files of "
                       "this age: convert it with 'qemu-img convert'");
}

#endif

/* Nothing but the plain disk is read this way. */
int legacy_open_image(int fd, const char *path, const char *tag, const char *passphrase,
                      struct qs_image **ret, struct err *e)
{
        uint8_t header[PROBE_BYTES];

        if (!read_probe(fd, header))
                return err_msg(e, EBADMSG, "not a QCOW file");
        if (crypt_method(header) && !passphrase)
                return err_msg(e, ENOKEY, "it is encrypted (AES): give its passphrase");
        if (get_be64(header + 8))
                return err_msg(e, ENOTSUP, "a backing file of a QCOW 1 or encrypted image is not "
                               "supported: flatten it with 'qemu-img convert'");
        if (tag)
                return err_msg(e, ENOENT, "there is no snapshot '%s' in it that can be read", tag);
        return open_image(fd, path, get_be32(header + 4), passphrase, ret, e);
}
