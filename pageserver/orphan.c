/* SPDX-License-Identifier: Apache-2.0 */
#include "pageserver/orphan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"

struct orphan {
        struct orphan *next;
        uid_t uid;
        dev_t dev;
        ino_t ino;
        int cache_fd;                   /* -1 = not come yet */
        int filled_fd;
};

struct cache_names cache_names(uid_t uid, ino_t ino)
{
        struct cache_names n;

        snprintf(n.cache, sizeof(n.cache), "cache-%ju-%ju", (uintmax_t)uid, (uintmax_t)ino);
        snprintf(n.filled, sizeof(n.filled), "filled-%ju-%ju", (uintmax_t)uid, (uintmax_t)ino);
        return n;
}

/* The one of this uid and inode, made if it is new; NULL = no memory */
static struct orphan *place(struct orphan_list *list, uid_t uid, ino_t ino)
{
        for (struct orphan *o = list->first; o; o = o->next) {
                if (o->uid == uid && o->ino == ino)
                        return o;
        }

        struct orphan *o = calloc(1, sizeof(*o));

        if (!o)
                return NULL;
        *o = (struct orphan){
                .next = list->first, .uid = uid, .ino = ino, .cache_fd = -1, .filled_fd = -1,
        };
        list->first = o;
        list->n++;
        return o;
}

/* "cache-UID-INO" or "filled-UID-INO", exactly as cache_names() writes them */
static bool parse_name(const char *name, uid_t *ret_uid, ino_t *ret_ino, bool *ret_filled)
{
        uintmax_t uid, ino;

        if (sscanf(name, "%*[a-z]-%ju-%ju", &uid, &ino) != 2)
                return false;

        struct cache_names n = cache_names((uid_t)uid, (ino_t)ino);

        *ret_uid = (uid_t)uid;
        *ret_ino = (ino_t)ino;
        *ret_filled = !strcmp(name, n.filled);
        return *ret_filled || !strcmp(name, n.cache);
}

bool orphan_take(struct orphan_list *list, const char *name, int *fd)
{
        struct stat st;
        uid_t uid;
        ino_t ino;
        bool filled;

        if (!parse_name(name, &uid, &ino, &filled) || fstat(*fd, &st) < 0)
                return false;
        if (!filled && st.st_ino != ino)
                return false;

        struct orphan *o = place(list, uid, ino);
        int *at = !o ? NULL : filled ? &o->filled_fd : &o->cache_fd;

        if (!at || *at >= 0)
                return false;
        *at = fd_take(fd);
        if (!filled)
                o->dev = st.st_dev;
        return true;
}

static void drop(struct orphan_list *list, struct orphan **at, struct fdstore *store)
{
        struct orphan *o = *at;
        struct cache_names n = cache_names(o->uid, o->ino);

        if (store) {
                fdstore_drop(store, n.cache);
                fdstore_drop(store, n.filled);
        }
        *at = o->next;
        list->n--;
        fd_close(&o->cache_fd);
        fd_close(&o->filled_fd);
        free(o);
}

void orphan_match(struct orphan_list *list, struct fdstore *store)
{
        for (struct orphan **at = &list->first; *at;) {
                if ((*at)->cache_fd < 0 || (*at)->filled_fd < 0)
                        drop(list, at, store);
                else
                        at = &(*at)->next;
        }
}

bool orphan_find(const struct orphan_list *list, uid_t uid, const struct stat *st,
                 struct orphan_files *ret)
{
        for (const struct orphan *o = list->first; o; o = o->next) {
                if (o->uid != uid || o->dev != st->st_dev || o->ino != st->st_ino)
                        continue;
                *ret = (struct orphan_files){ o->cache_fd, o->filled_fd };
                return true;
        }
        return false;
}

void orphan_adopted(struct orphan_list *list, const struct orphan_files *files)
{
        struct orphan **at = &list->first;

        while (*at && (*at)->cache_fd != files->cache_fd)
                at = &(*at)->next;
        ASSERT(*at);
        drop(list, at, NULL);
}

void orphan_drop_all(struct orphan_list *list, struct fdstore *store)
{
        while (list->first)
                drop(list, &list->first, store);
}
