/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/fcstay.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"

#define TABLE_MAGIC "SNAPFCST"
#define TABLE_VERSION 1u

/* The table's file, read by the next process of the same build or a later one: this
 * and, behind it, an ATTACH message. */
struct head {
        char magic[8];
        uint32_t version;
        uint32_t page_bytes;
        int32_t pid;
        uint32_t uid;
        uint64_t clusters;
        uint32_t cluster_bits;
        uint32_t attach_bytes;
        uint8_t image[16];
        char tag[FILLMAP_TAG_BYTES];
};

static_assert(sizeof(struct head) == 120, "the layout outlives a process");

enum part { PART_TABLE, PART_UFFD, PART_REMOVED, PART_PROCESS, PARTS };

static const char *const part_name[] = { "table", "uffd", "removed", "process" };

static_assert(ARRAY_SIZE(part_name) == PARTS, "one name for each part");

struct stay_name {
        char text[64];
};

static struct stay_name name_of(uint64_t key, enum part part)
{
        struct stay_name n;

        snprintf(n.text, sizeof(n.text), "fc-%" PRIu64 "-%s", key, part_name[part]);
        return n;
}

static int *part_of(struct fcstay *stay, enum part part)
{
        switch (part) {
        case PART_TABLE:
                return &stay->table_fd;
        case PART_UFFD:
                return &stay->uffd;
        case PART_REMOVED:
                return &stay->removed_fd;
        default:
                return &stay->pidfd;
        }
}

/* ---- putting away ------------------------------------------------------------------ */

static int write_table(int fd, const struct fcstay *stay)
{
        struct psmsg *m = calloc(1, sizeof(*m));
        uint8_t *buf = malloc(PSMSG_BYTES_MAX);
        struct head head = {
                .magic = TABLE_MAGIC, .version = TABLE_VERSION, .page_bytes = stay->page_bytes,
                .pid = stay->pid, .uid = stay->uid,
                .clusters = stay->image.clusters, .cluster_bits = stay->image.cluster_bits,
        };
        int rc = -ENOMEM;

        memcpy(head.image, stay->image.image, sizeof(head.image));
        memcpy(head.tag, stay->image.tag, sizeof(head.tag));
        if (m && buf) {
                m->type = PSMSG_ATTACH;
                m->attach = stay->attach;
                m->attach.reattach = true;
                head.attach_bytes = (uint32_t)psmsg_encode(m, buf);
                rc = io_pwrite_full(fd, &head, sizeof(head), 0);
                if (rc == 0)
                        rc = io_pwrite_full(fd, buf, head.attach_bytes, sizeof(head));
        }
        free(m);
        free(buf);
        return rc;
}

static int make_table(const struct fcstay *stay, int *ret_fd, uint64_t *ret_key, struct err *e)
{
        AUTO_FD fd = memfd_create("fc-table", MFD_CLOEXEC);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return err_set(e, errno, "cannot make a memfd");

        int rc = write_table(fd, stay);

        if (rc < 0)
                return err_set(e, -rc, "cannot write the table of regions");
        *ret_fd = fd_take(&fd);
        *ret_key = st.st_ino;
        return 0;
}

int fcstay_put(struct fdstore *store, const struct fcstay *stay, uint64_t *ret_key,
               struct err *e)
{
        struct fcstay all = *stay;
        uint64_t key = 0;
        AUTO_FD table = -1;

        *ret_key = 0;
        if (!store)
                return 0;

        int rc = make_table(stay, &table, &key, e);

        all.table_fd = table;
        for (unsigned i = 0; i < PARTS && rc == 0; i++) {
                int fd = *part_of(&all, (enum part)i);

                if (fd >= 0)
                        rc = fdstore_put(store, name_of(key, (enum part)i).text, fd, e);
        }
        if (rc < 0) {
                if (key)
                        fcstay_drop(store, key);
                return rc;
        }
        *ret_key = key;
        return 0;
}

void fcstay_drop(struct fdstore *store, uint64_t key)
{
        if (!store || key == 0)
                return;
        for (unsigned i = 0; i < PARTS; i++)
                fdstore_drop(store, name_of(key, (enum part)i).text);
}

/* ---- coming back ---------------------------------------------------------------------- */

static struct fcstay *place(struct fcstay **list, uint64_t key)
{
        for (struct fcstay *s = *list; s; s = s->next) {
                if (s->key == key)
                        return s;
        }

        struct fcstay *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->next = *list;
        s->key = key;
        s->table_fd = s->uffd = s->removed_fd = s->pidfd = -1;
        *list = s;
        return s;
}

bool fcstay_take(struct fcstay **list, const char *name, int *fd)
{
        uint64_t key;

        if (sscanf(name, "fc-%" SCNu64 "-", &key) != 1)
                return false;
        for (unsigned i = 0; i < PARTS; i++) {
                if (strcmp(name, name_of(key, (enum part)i).text) != 0)
                        continue;

                struct fcstay *s = place(list, key);
                int *at = s ? part_of(s, (enum part)i) : NULL;

                if (!at || *at >= 0)
                        return false;
                *at = fd_take(fd);
                return true;
        }
        return false;
}

static bool read_head(struct fcstay *stay, struct head *h)
{
        if (io_pread_full(stay->table_fd, h, sizeof(*h), 0) < 0 ||
            memcmp(h->magic, TABLE_MAGIC, sizeof(h->magic)) != 0 || h->version != TABLE_VERSION ||
            h->attach_bytes > PSMSG_BYTES_MAX || h->tag[sizeof(h->tag) - 1] ||
            (h->page_bytes != PSMSG_PAGE_SMALL && h->page_bytes != PSMSG_PAGE_HUGE))
                return false;
        stay->page_bytes = h->page_bytes;
        stay->pid = h->pid;
        stay->uid = h->uid;
        stay->image.clusters = h->clusters;
        stay->image.cluster_bits = h->cluster_bits;
        memcpy(stay->image.image, h->image, sizeof(h->image));
        memcpy(stay->image.tag, h->tag, sizeof(h->tag));
        return true;
}

static bool read_attach(struct fcstay *stay, uint32_t bytes)
{
        struct psmsg *m = calloc(1, sizeof(*m));
        uint8_t *buf = malloc(PSMSG_BYTES_MAX);
        bool ok = m && buf && io_pread_full(stay->table_fd, buf, bytes, sizeof(struct head)) == 0 &&
                  psmsg_decode(buf, bytes, m) == 0 && m->type == PSMSG_ATTACH &&
                  m->attach.nuffds == 1;

        if (ok)
                stay->attach = m->attach;
        free(m);
        free(buf);
        return ok;
}

bool fcstay_read(struct fcstay *stay)
{
        struct head head;

        return stay->table_fd >= 0 && stay->uffd >= 0 && stay->removed_fd >= 0 &&
               read_head(stay, &head) && read_attach(stay, head.attach_bytes);
}

void fcstay_free(struct fcstay *stay)
{
        if (!stay)
                return;
        for (unsigned i = 0; i < PARTS; i++)
                fd_close(part_of(stay, (enum part)i));
        free(stay);
}
