/* SPDX-License-Identifier: Apache-2.0 */
/* imglock.h - who may do what with an image file at the same time.
 *
 * Theory of operation
 *
 * QEMU read-locks byte 100+n while it uses permission n and 200+n while it
 * does not let others use it, then looks whether others contradict
 * (block/file-posix.c): 0 consistent read, 1 write, 3 resize. All of ours share
 * neither "write" nor "resize" when they look, and use none of the two: QEMU's
 * readers work meanwhile, its writers are refused, and the other way round.
 *
 *      byte            read-locked by               write-locked by
 *      100             QEMU's readers, for good;
 *                      ours, while they open
 *      201             our readers and appenders
 *      203             our appenders;
 *                      QEMU's readers, for good
 *      300             who makes a delta of it      the one appender
 *      1024 + id       our readers of snapshot id   who deletes it
 *
 * An appender never changes what the published header leads to, so a reader
 * must fear only for clusters that the next header leaves free: those of the
 * file's own tables (snapshot table, refcounts) when anything is added, those
 * of a snapshot when it is deleted. Byte 100 guards all of them, the byte of a
 * snapshot that one alone. QEMU holds 100 as long as it has the file open, but
 * not for 'qemu-img info', which reads tables too: then 203 tells, which none of
 * our readers has. We hold 100 until header and snapshot table are read, so that
 * a VM that runs for weeks from one snapshot does not keep the others' old tables
 * from being reused. Whoever reads the file's own tables longer (a checker), or a
 * file in which snapshots are not ours, keeps 100.
 *
 * INV-HEADER:  100 is held before the header is read, and until the last read
 *              of what belongs to the file and not to one snapshot.
 * INV-TAG:     a snapshot is read only by who saw a header that has it while
 *              he held its byte: lock, then see that sector 0 is the same.
 * INV-REUSE:   clusters that a published header freed are reused only after
 *              imglock_readers() was false, asked after that header was written.
 *
 * Ownership: locks belong to the open file description (OFD), not to the
 *            descriptor or process: duplicates share them, also those passed
 *            to other processes, and do not exclude each other; they go with
 *            the last one. So two images may be open through duplicates, but
 *            one must not be opened while another still needs byte 100.
 *            Snapshots' bytes are given back only by closing, or with all others.
 * Threads:   any.
 * Errors:    -EBUSY and a sentence when others are in the way. Readers tolerate
 *            file systems without such locks, writers do not (-ENOLCK). After
 *            a failure close the file: some of the bytes may be locked.
 */
#ifndef QCOWSTORE_IMGLOCK_H
#define QCOWSTORE_IMGLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"

/* A reader before it reads the header: 100 and 201. -EBUSY: a writer that is
 * not ours has it open. Again is allowed. */
int imglock_read(int fd, struct err *e);
/* A reader that knows its snapshot: the snapshot's byte, then 100 is given back
 * (unless there are no locks here). Then INV-TAG is for the caller to see.
 * -EAGAIN: somebody deletes the snapshot just now; 100 is kept. Again is
 * allowed, other snapshots' bytes stay. */
int imglock_tag(int fd, uint32_t id, struct err *e);
/* A reader that has read all it wanted of the file's own tables gives 100 back. */
void imglock_tables_done(int fd);
/* All that this open file has locked, also through duplicates. */
void imglock_none(int fd);

/* The appender, with a descriptor for writing: 201, 203 and 300; before it
 * reads the header. It then compares the file with the one that has the name
 * now, for a file may be replaced as a whole. -EBUSY: a writer that is not ours,
 * or another appender. */
int imglock_append(int fd, struct err *e);
/* Whoever makes a delta of it, so that it stays as it is: 300. Any descriptor, and
 * any number of them. -EBUSY: an appender is there; file systems without locks,
 * which have none, are tolerated. */
int imglock_hold(int fd, struct err *e);
/* Does anybody else hold 100 or 203? True also where that cannot be known. */
bool imglock_readers(int fd);
/* The appender that wants to delete a snapshot: its byte. -EBUSY: it is read. */
int imglock_delete(int fd, uint32_t id, struct err *e);

#endif
