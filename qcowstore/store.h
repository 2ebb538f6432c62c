/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - guest RAM and machine state in one QCOW2 file: the public door.
 *
 * The virtual disk of the file is guest-physical memory: disk offset = GPA,
 * holes of the physical map stay unallocated. A saved state is an internal
 * snapshot whose VM-state area holds named, checksummed sections. Everything
 * read from a file is untrusted until checked; only checked bytes leave here.
 * specs: QEMU docs/interop/qcow2.rst; our own parts: man/snapback-image.5.
 *
 * Errors:  0 or a negative errno with a sentence in *e that names the file;
 *          -EBADMSG = the file is damaged or not ours to read, -ENOTSUP = made
 *          by a newer version or with a feature we do not have.
 */
#ifndef QCOWSTORE_STORE_H
#define QCOWSTORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

#define QS_CLUSTER_BITS_MIN 12
#define QS_CLUSTER_BITS_MAX 21
#define QS_CLUSTER_BITS_DEFAULT 14
#define QS_TAG_MAX 63                   /* bytes, without the NUL */
#define QS_SECTION_NAME_MAX 15
#define QS_SECTIONS_MAX 32
#define QS_SECTION_BYTES_MAX (256u << 20)
#define QS_RAM_RANGES_MAX 16
#define QS_DISK_BYTES_MAX (1ull << 46)
#define QS_ZSTD_LEVEL_DEFAULT 1
#define QS_ZSTD_LEVEL_MAX 19
/* Files of a chain. QEMU itself sets no limit; people flatten long before. */
#define QS_LAYERS_MAX 65

enum qs_compress { QS_COMPRESS_NONE, QS_COMPRESS_ZSTD };

/* A run of guest RAM. */
struct qs_ram_range {
        uint64_t gpa;
        uint64_t bytes;
};

/* ---- reading ------------------------------------------------------------ */

struct qs_image;        /* one open file at one snapshot; shared by all threads */
struct qs_reader;       /* buffers of one reading thread */

struct qs_image_info {
        unsigned format_version;        /* of our own parts; 0 = a QCOW2 file without them */
        uint8_t uuid[16];               /* of the file; zero in one of another program */
        /* Of what is read: file and snapshot, of every layer. Whoever keeps what he
         * read tells by it whether it still is the same; see qs_image_same(). */
        uint8_t identity[16];
        unsigned cluster_bits;
        uint64_t disk_bytes;            /* end of guest-physical space */
        uint64_t file_bytes;
        enum qs_compress compress;
        char tag[QS_TAG_MAX + 1];       /* the snapshot that was opened */
        uint64_t date_ns;               /* wall clock of the save */
        uint64_t vm_clock_ns;
        uint64_t state_bytes;           /* of the VM-state area */
        bool is_parent;                 /* deltas were made of it: it must not change */
        const char *parent;             /* name of the backing file; NULL = none; the image's */
        unsigned layers;                /* files that were opened: 1 + parents */
        bool changed;                   /* another program changed this file of ours: its
                                         * snapshots are as they were, if they are there */
};

/* Opens in constant time, whatever the RAM size: header, L1, snapshot table
 * and section table are checked now; L2 tables and checksum blocks when first
 * used. tag NULL = the default (latest) snapshot. The descriptor is duplicated;
 * path is only for messages. Takes QEMU's shared image locks for its lifetime.
 * Threads: the image may be used by any number of threads until it is closed.
 *
 * QCOW2 files of other programs (versions 2 and 3) are read too: format_version
 * is 0, nothing vouches for their bytes, and tag NULL means the active layer. An
 * image with a backing file is refused: it needs one of the next three. */
int qs_image_open(int fd, const char *path, const char *tag,
                  struct qs_image **ret, struct err *e);
/* The same with all its parents, by descriptor alone: the image, its parent, that
 * one's parent and so on, exactly as many as there are (1..QS_LAYERS_MAX). No name
 * is followed, so this is for whoever opens on behalf of others. A parent must be
 * declared to be qcow2; that of a file of ours is the very one it was made from. */
int qs_image_open_chain(const int *fds, size_t n, const char *path, const char *tag,
                        struct qs_image **ret, struct err *e);
/* The same, the parents looked for by name. A name without '/' is looked for in the
 * folder folder_fd of the image and, if it is not there, in allowed_fd (-1 = none);
 * one with '/' must name a file directly in allowed_fd. A parent's own parent lies
 * beside it or in allowed_fd. Nothing else is opened: no ':', no symbolic link, only
 * regular files; no file twice, at most QS_LAYERS_MAX. Whoever opens on behalf of
 * others must not use this: the name is the image's choice. */
int qs_image_open_at(int fd, const char *path, const char *tag, int folder_fd, int allowed_fd,
                     struct qs_image **ret, struct err *e);

/* All zero = nothing special. */
struct qs_open_options {
        const char *tag;                /* NULL = the default (latest) snapshot */
        const char *passphrase;         /* of files that QEMU encrypted with AES */
        const char *allow_parent;       /* one more folder in which parents may lie */
        bool parents_later;             /* parents are found and kept open, but neither locked
                                         * nor checked as wholes: see qs_image_settle() */
};

/* By name, parents in the same folder or in the allowed one; QCOW version 1 and
 * files encrypted with AES too, where libqcow is installed. A wrong passphrase gives
 * wrong bytes, the format cannot tell; -ENOKEY when it is missing. options may be
 * NULL. For a user's own commands. */
int qs_image_open_path(const char *path, const struct qs_open_options *options,
                       struct qs_image **ret, struct err *e);
/* Of an image that was opened with parents_later: opens the parents that were found, as
 * if they had been opened then. Before, RAM must not be read, nor this be compared with other
 * images; sections, descriptors and names of the layers are there. For who has the chain opened
 * by another process before it matters. Of any other image, and the second time: nothing.
 * Any thread. After a failure it may be tried again. */
int qs_image_settle(struct qs_image *image, struct err *e);
void qs_image_close(struct qs_image *image);
const struct qs_image_info *qs_image_info(const struct qs_image *image);
/* Descriptor and name of a layer, 0 = the image itself, < info.layers; the image's. */
int qs_image_fd(const struct qs_image *image, unsigned layer);
const char *qs_image_name(const struct qs_image *image, unsigned layer);
/* Do both read the same snapshots of the same files, which did not change between
 * the two openings? Compares all that identity is a hash of, which its maker could
 * make equal on purpose. What is appended to a file of ours does not change it. */
bool qs_image_same(const struct qs_image *a, const struct qs_image *b);

/* For who opens an image long before it is wanted; its parents are settled. Between the two
 * calls nobody is kept from changing or deleting it, through whatever duplicates of its
 * descriptors there are, and nothing of it may be read. regain: -ESTALE when it, or a parent,
 * was touched since it was opened, or its path (as it was opened, relative to the same folder)
 * names another file; else -EBUSY or -EAGAIN: somebody changes it just now. After a failure
 * close it. */
void qs_image_yield(struct qs_image *image);
int qs_image_regain(struct qs_image *image, struct err *e);

int qs_reader_new(struct qs_image *image, struct qs_reader **ret, struct err *e);
void qs_reader_free(struct qs_reader *reader);

enum qs_kind {
        QS_ZERO,        /* no data in the file: reads as zeros            */
        QS_RAW,         /* stored as it is                                */
        QS_PACKED,      /* stored compressed                              */
};

/* Clusters are those of the image: 1 << info.cluster_bits bytes, 4 KiB at least;
 * their number is disk_bytes >> cluster_bits, rounded up. In files of other
 * programs and chains of files one may be put together of several pieces: its
 * kind is then that of the piece that is most work. */

/* What the cluster is, without reading its data (reads its L2 table and
 * checksum block on first use). */
int qs_cluster_kind(struct qs_reader *reader, uint64_t cluster, enum qs_kind *ret,
                    struct err *e);
/* That, and how many clusters from there on, at most max > 0, are of the same
 * kind; QS_RAW ones also lie one behind the other in one file. */
int qs_extent_at(struct qs_reader *reader, uint64_t cluster, uint64_t max,
                 enum qs_kind *ret_kind, uint64_t *ret_n, struct err *e);
/* The number of clusters from `cluster` on, at most max, that are QS_ZERO. */
int qs_zero_run(struct qs_reader *reader, uint64_t cluster, uint64_t max, uint64_t *ret,
                struct err *e);
/* Reads one whole cluster as plain bytes into buf (1 << cluster_bits), checked
 * against its checksum (INV-VERIFIED); on error buf holds nothing of worth. */
int qs_cluster_read(struct qs_reader *reader, uint64_t cluster, void *buf, struct err *e);
/* Reads n clusters that follow each other in as few reads as their places in
 * the file allow; the rest as above. The message names the first bad one. */
int qs_clusters_read(struct qs_reader *reader, uint64_t cluster, uint64_t n, void *buf,
                     struct err *e);

/* RAM from gpa on, pages of it and not whole clusters, also beyond the end of the
 * disk, where zeros are. *ret_zero: all of it is QS_ZERO, and buf is untouched. */
int qs_span_read(struct qs_reader *reader, uint64_t gpa, uint64_t bytes, void *buf,
                 bool *ret_zero, struct err *e);

/* RAM that will be read soon: the kernel begins to bring it from the disk, many pieces
 * at a time. A hint: nothing is said when it cannot be done. */
void qs_read_soon(struct qs_reader *reader, uint64_t gpa, uint64_t bytes);

/* A section of the snapshot, whole and checked; the caller frees *ret_data.
 * A NUL follows the data. -ENOENT when there is no such section. */
int qs_section_read(struct qs_reader *reader, const char *name, void **ret_data,
                    size_t *ret_bytes, struct err *e);

/* ---- writing ------------------------------------------------------------ */

struct qs_writer;

struct qs_writer_options {
        unsigned cluster_bits;          /* QS_CLUSTER_BITS_MIN..MAX */
        enum qs_compress compress;
        int zstd_level;
        unsigned threads;               /* 0 = one per online CPU */
        uint64_t disk_bytes;            /* end of guest-physical space; multiple of 4096 */
        char tag[QS_TAG_MAX + 1];       /* "" = "default" */
        uint64_t vm_clock_ns;
        uint64_t date_ns;               /* wall clock of the save; 0 = now */
        bool force;                     /* replace an existing file */
        bool force_parent;              /* even one that deltas were made of */
        bool append;                    /* add the tag to the file, if there is one, whose
                                         * cluster size holds then; force replaces a tag */
        bool compress_alike;            /* in such a file as it is done there */
        bool background;                /* work is done by threads of nice 5 */
        /* Path of a parent: what it has already is not stored. An image of ours in
         * the folder of the new one, with one snapshot and the same disk_bytes; it
         * is marked as a parent, if that can be done, and must not change any
         * more. NULL = none; needed only by qs_writer_new(). */
        const char *backing;
};

/* The options of commands that write images. -EINVAL and a sentence with the text. */
/* "none", "zstd", "zstd:LEVEL" */
int qs_compress_parse(const char *text, struct qs_writer_options *w, struct err *e);
/* 4K..2M, a power of two */
int qs_cluster_size_parse(const char *text, struct qs_writer_options *w, struct err *e);
int qs_tag_parse(const char *text, char ret[QS_TAG_MAX + 1], struct err *e);

/* Guest clusters, by what became of them. */
struct qs_writer_stats {
        uint64_t clusters_zero;
        uint64_t clusters_raw;
        uint64_t clusters_packed;
        uint64_t clusters_shared;       /* their content was stored already */
        uint64_t clusters_same;         /* as in the backing file; zeros count as zero, if they
                                         * were looked at (QS_SPAN_PARENT is not) */
        uint64_t ram_bytes;             /* looked at */
        uint64_t file_bytes;            /* of the published file */
};

/* pages of 4 KiB that a span has at most: those of the largest cluster */
#define QS_SPAN_PAGES_MAX 512

/* What a source says of a span. */
enum qs_span_kind {
        QS_SPAN_DATA,           /* it has the bytes that are returned                 */
        QS_SPAN_ZERO,           /* all zero; what is returned is not looked at        */
        QS_SPAN_PARENT,         /* all as in the parent; what is returned is not either */
};

struct qs_span {
        enum qs_span_kind kind;
        uint64_t parent[QS_SPAN_PAGES_MAX / 64];        /* of DATA: bit i: page i as in the
                                 * parent; what is returned for it is not looked at */
};

static inline void qs_span_mark_parent(struct qs_span *s, size_t page)
{
        s->parent[page / 64] |= 1ull << page % 64;
}

/* Where plain RAM comes from. */
struct qs_ram_source {
        /* Called from several threads at once for disjoint spans; a span never crosses a
         * range and has at most 1 MiB, or a cluster that is larger. Returns the bytes
         * themselves, which must not change until qs_writer_ram() returns, or, when they must
         * be fetched, buf filled with them; NULL with *e set on failure. *ret is zeroed. */
        const void *(*span)(void *ctx, uint64_t gpa, size_t bytes, void *buf,
                            struct qs_span *ret, struct err *e);
        void *ctx;
        /* What the source means by a parent, open until qs_writer_ram() returns; NULL = one
         * that is all zero. Clusters that are wholly as there cost least:
         *   - in a delta of that very snapshot, or of deltas of it that say nothing of them:
         *     nothing is read or stored;
         *   - in the file that has that snapshot: its clusters are referred to, unread, so
         *     that damage stays damage;
         *   - in a new file with zstd and the parent's cluster size: what zstd made of them is
         *     copied as it is, whatever the level, when it matches its sum in the parent.
         * Everything else is read from the parent, and is then like other data: a cluster
         * of which only some pages are as there, a file of another kind. */
        struct qs_image *parent;
        /* NULL, or: names RAM that should be taken as soon as possible; false = the usual
         * ascending order will do. Each thread of qs_writer_ram() asks whenever it takes a
         * piece, of 1 MiB or one cluster that is larger, and waits for the answer. What was
         * taken already, or is no RAM, may be named too: then it is as if false was said. */
        bool (*next)(void *ctx, uint64_t *ret_gpa);
};

/* Bytes of work done so far, of all. From any of the threads that work, one at a
 * time. false cancels: the function that works returns -ECANCELED and leaves
 * nothing behind. NULL = nobody wants to know. */
typedef bool qs_progress_fn(void *ctx, uint64_t done_bytes, uint64_t total_bytes);

/* Nothing appears under path before qs_writer_publish(): the file has no name
 * until then (O_TMPFILE), or a temporary one in the same folder that is removed
 * by qs_writer_free(). -EEXIST at once when path exists and !force.
 * With append, a file of ours that exists gets one more snapshot, which shares
 * all content that the others have; nobody who reads it sees anything of that
 * before qs_writer_publish(), nor ever when that fails. -EEXIST when it has such
 * a tag and !force, -EBUSY when somebody else changes it just now, or reads the
 * tag that is to be replaced. */
int qs_writer_new(const char *path, const struct qs_writer_options *options,
                  struct qs_writer **ret, struct err *e);
/* Abandons everything that was not published. */
void qs_writer_free(struct qs_writer *writer);
/* Once. ranges ascend, do not overlap, are 4 KiB aligned and end within disk_bytes. */
int qs_writer_ram(struct qs_writer *writer, const struct qs_ram_range *ranges, size_t n,
                  const struct qs_ram_source *source, qs_progress_fn *progress,
                  void *progress_ctx, struct err *e);
/* After qs_writer_ram(), any number of times before qs_writer_publish(): RAM in these
 * ranges, of which there may be as many as pages, has other content now. They are as
 * above, and what of them qs_writer_ram() was not told of is left out. The source is
 * asked for exactly that, in spans that cross neither a range of either kind nor a
 * boundary of 1 MiB (or a cluster that is larger), each byte once; what it returns must
 * not change until this returns. What is beside the ranges in a cluster stays as it is.
 * Pages that the source says are its parent's are read from there.
 * Whatever nothing refers to any more is not in the published file. Stats count each
 * cluster as it was taken last, and the bytes of RAM once. A pass costs some time by
 * itself: give many changes at once. When it fails, nothing can be published. */
int qs_writer_again(struct qs_writer *writer, const struct qs_ram_range *ranges, size_t n,
                    const struct qs_ram_source *source, qs_progress_fn *progress,
                    void *progress_ctx, struct err *e);
/* RAM as it has been taken so far, whole pages of the disk, checked against its sum; zeros
 * where there is none. After qs_writer_ram(), before qs_writer_publish(); the source of
 * qs_writer_again() may call it too, from all of its threads, for what lies in the same
 * 1 MiB (or larger cluster) as the span it is asked for. Whole clusters are read each time:
 * ask for many pages at once. -EBADMSG: the disk does not give back what was written. */
int qs_writer_read_back(struct qs_writer *writer, uint64_t gpa, size_t bytes, void *buf,
                        struct err *e);
/* Once, before qs_writer_ram(): what shall lie in the file before all else, in
 * this order, as it will be wanted: a working set. Ranges may overlap; those
 * that are not of the disk are left out. The source is asked for them once more then,
 * before all else and without qs_ram_source.next. */
int qs_writer_first(struct qs_writer *writer, const struct qs_ram_range *ranges, size_t n,
                    struct err *e);
/* Each name once; the data are copied. Reserved names: CHECKSUMS, HOSTSUMS. */
int qs_writer_section(struct qs_writer *writer, const char *name, const void *data,
                      size_t bytes, struct err *e);
/* Writes tables and header, makes all durable, then gives the file its name;
 * afterwards only qs_writer_stats() and qs_writer_free() may be called. */
int qs_writer_publish(struct qs_writer *writer, struct err *e);
void qs_writer_stats(const struct qs_writer *writer, struct qs_writer_stats *ret);

/* ---- whole files -------------------------------------------------------- */

struct qs_check_report {
        uint64_t corruptions;           /* wrong structure or wrong bytes */
        uint64_t leaks;                 /* clusters counted but not used */
        uint64_t clusters_used;         /* guest clusters with data */
        uint64_t clusters_checked;      /* host clusters whose bytes were compared */
        bool changed;                   /* by another program: see qs_image_info */
};

/* One sentence per finding. From any of the threads that work, one at a time. */
typedef void qs_finding_fn(void *ctx, const char *text);

/* Structure: every table, reference and refcount, and the checksum of every
 * metadata cluster. With contents also the stored bytes of every cluster in
 * use and the plain content of every guest cluster, so that any flipped bit in
 * a file of ours is found. 0 when the check could be made, whatever it found. */
int qs_check(int fd, const char *path, bool contents, qs_finding_fn *finding, void *ctx,
             qs_progress_fn *progress, void *progress_ctx, struct qs_check_report *ret,
             struct err *e);

struct qs_snapshot_info {
        char id[16];
        char tag[QS_TAG_MAX + 1];
        uint64_t date_ns;
        uint64_t vm_clock_ns;
        uint64_t state_bytes;
        bool is_default;
        bool changed;                   /* the file, by another program */
};

/* All snapshots of the file; the caller frees *ret. */
int qs_snapshot_list(int fd, const char *path, struct qs_snapshot_info **ret, size_t *ret_n,
                     struct err *e);

/* Takes one of several snapshots out of a file of ours and gives back the space that
 * only it used. -EBUSY: it is read just now, or somebody else changes the file.
 * A reader, or a crash, finds the old state or the new one. */
int qs_snapshot_delete(const char *path, const char *tag, struct err *e);

/* What the guest wants first when it is reverted, in the order in which it wants it. */
#define QS_SECTION_WORKING_SET "WORKING-SET"
/* extents; 4 GiB of single pages */
#define QS_WORKING_SET_MAX (1u << 20)

/* Of the snapshot that is open, as the file has it now; the caller frees *ret. The
 * extents lie on the disk, on page boundaries. -ENOENT: it has none. */
int qs_working_set_read(struct qs_image *image, struct qs_ram_range **ret, size_t *ret_n,
                        struct err *e);
/* Stores it, pages of guest memory; tag NULL = the default one, n 0 = there shall be
 * none. Nothing of a snapshot is written: whoever reads the file goes on, deltas of it
 * stay valid, and qs_image_same() does not see it. of: an image that the file
 * must be, perhaps made anew since it was opened (-ESTALE); NULL = any. -EBUSY:
 * somebody else changes the file just now. */
int qs_working_set_put(const char *path, const char *tag, const struct qs_image *of,
                       const struct qs_ram_range *set, size_t n, struct err *e);
/* Of a delta: what it stores itself, in ascending order: what the guest that it was saved
 * from wrote since it was reverted from the parent. */
int qs_working_set_learn(struct qs_image *delta, struct qs_ram_range **ret, size_t *ret_n,
                         struct err *e);
/* The one place that judges a working set's bytes, as snapback-image(5) has them; what
 * lies behind disk_bytes is left out. */
int qs_working_set_parse(const void *data, size_t bytes, uint64_t disk_bytes,
                         struct qs_ram_range **ret, size_t *ret_n, struct err *e);

/* The file is made anew under its name with all its snapshots, without what none
 * of them refers to; what is stored is copied as it is. Whoever has the old file
 * open keeps it. Works on a file that another program changed too, if all its
 * snapshots are ours. progress counts the RAM of all snapshots. */
int qs_compact(const char *path, qs_progress_fn *progress, void *ctx,
               struct qs_writer_stats *ret, struct err *e);
/* The same, with content compressed anew and equal one found again; a snapshot's
 * working set lies first and in its order. Of the options: cluster_bits (0 = as it
 * is), compress, zstd_level, threads. */
int qs_optimize(const char *path, const struct qs_writer_options *options,
                qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret,
                struct err *e);

/* A stretch of guest-physical memory and where it is in a flat file. */
struct qs_flat_part {
        uint64_t gpa;
        uint64_t bytes;
        uint64_t offset;
};

/* A flat file of memory: n parts of whole 4 KiB pages, which ascend and do not overlap,
 * neither in memory nor in the file; none = all of it at guest-physical offsets. */
struct qs_flat {
        const char *path;
        const struct qs_flat_part *parts;
        size_t n;
};

/* Bytes under a name, which is a section's or a file's. */
struct qs_blob {
        const char *name;
        const void *data;
        size_t bytes;
};

/* RAM of the image as a flat, sparse file at guest-physical offsets; published
 * whole under its name or not at all. */
int qs_export(struct qs_image *image, const char *raw_path, bool force,
              qs_progress_fn *progress, void *progress_ctx, struct err *e);
/* The same in parts, what lies between them left out, and a file beside it: both are
 * published, whole, or neither. A crash between may leave the first of them. */
int qs_export_flat(struct qs_image *image, const struct qs_flat *flat,
                   const struct qs_blob *beside, bool force, qs_progress_fn *progress,
                   void *progress_ctx, struct err *e);
/* A file of these bytes, published in the same way. */
int qs_export_blob(const struct qs_blob *blob, bool force, struct err *e);
/* *ret_gpa: the first guest address at which the RAM of the two differs,
 * UINT64_MAX = none. The smaller one counts as followed by zeros. */
int qs_compare(struct qs_image *a, struct qs_image *b, qs_progress_fn *progress,
               void *progress_ctx, uint64_t *ret_gpa, struct err *e);
/* A new image with the content of an open one: RAM, sections, tag, date and VM
 * clock; cluster size, compression, parent and force are the options'. It has a
 * UUID of its own. */
int qs_rewrite(struct qs_image *from, const char *path, const struct qs_writer_options *options,
               qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret_stats,
               struct err *e);
/* The same under the name that the image was opened by, once all is there; whoever
 * has the old file open keeps it. Refused where something would be lost: a file with
 * several snapshots or of another program, and, without force, one that deltas
 * were made of, for they know their parent by its UUID. */
int qs_rewrite_in_place(struct qs_image *image, const struct qs_writer_options *options,
                        qs_progress_fn *progress, void *ctx, struct qs_writer_stats *ret_stats,
                        struct err *e);
/* A flat file becomes an image without machine state. */
int qs_import(const char *raw_path, const char *image_path,
              const struct qs_writer_options *options, qs_progress_fn *progress,
              void *progress_ctx, struct qs_writer_stats *ret_stats, struct err *e);
/* The same of one in parts, which is as long as they say, with sections. */
int qs_import_flat(const struct qs_flat *flat, const struct qs_blob *sections, size_t nsections,
                   const char *image_path, const struct qs_writer_options *options,
                   qs_progress_fn *progress, void *progress_ctx,
                   struct qs_writer_stats *ret_stats, struct err *e);

#endif
