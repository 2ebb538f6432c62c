/* SPDX-License-Identifier: Apache-2.0 */
/* control.h - the HTTP/JSON door of one VM, on its unix socket.
 *
 *   GET   /vm                what `vmm info` shows
 *   GET   /machine-config    its devices (machine-config.h), "cpus", "memory" and "hugepages"
 *   GET   /drives            "disks" of these, GET /network-interfaces "nets"
 *   GET   /metrics           the numbers of GET /vm, for Prometheus
 *   PATCH /vm                {"state": "Paused" | "Resumed"}
 *   PUT   /actions           {"action_type": "Stop" | "PowerButton" | "CancelSave"}
 *                            CancelSave answers when the save has ended; with
 *                            "snapshot_path" only a save to that one is meant
 *   PUT   /prefetch          {"rate": "on"|"off"|RATE|"pause"|"resume"}
 *   PUT   /snapshot/create   {"snapshot_path": "/abs/file", "tag": "...",
 *                             "mode": "live"|"paused"|"stop", "staging": BYTES,
 *                             "compress": "none"|"zstd", "level": N,
 *                             "cluster_size": N, "backing": "/abs/file",
 *                             "force": bool, "progress": bool}
 *                            answers when the file is there; a client that hangs up
 *                            before cancels its save. With progress the answer is 200
 *                            at once and lines of JSON, up to ten a second: "save" of
 *                            GET /vm, and last the result or {"error": "sentence"}
 *   PUT   /snapshot/load     create-request.h; of a VM that is empty, once. Answers with
 *                            GET /vm when the guest runs; when it cannot the VM ends
 *   PUT   /snapshot/rollback {"tag": "...", "paused": bool}
 *                            answers when the guest has gone back
 *   PUT   /clone             {"to": "NAME"}, where the client listens for descriptors:
 *                            see clone-door.h; answers when they were sent
 * Errors are {"error": "sentence"} with 400 (bad request), 404, 405, 409 (not
 * in this state) or 500. Requests are untrusted but local: the socket's mode
 * is 0600. One request for each connection; how many there are, how long they take and
 * how much they say is limited as at vmm serve's doors. Not how often: who may connect
 * may end the VM.
 * Threads: event loop only.
 */
#ifndef VMM_CONTROL_H
#define VMM_CONTROL_H

#include <stddef.h>

#include "common/err.h"
#include "vmm/save.h"

#define CONTROL_BODY_MAX (64u << 10)
#define CONTROL_HEADERS_MAX (16u << 10)
/* the others wait in the kernel */
#define CONTROL_CONNS_MAX 64
/* to say what is wanted, and to take the answer */
#define CONTROL_CONN_SECONDS 10
/* without a byte meanwhile */
#define CONTROL_SILENCE_SECONDS 5

struct control;
struct vm;

int control_new(struct vm *vm, const char *socket_path, struct control **ret, struct err *e);
void control_free(struct control *c);

/* What it takes, for the tests: "GET", "/vm". NULL behind the last. */
struct control_route {
        const char *method;
        const char *path;
};
const struct control_route *control_route_at(size_t i);

/* The body of PUT /snapshot/create; text is untrusted. */
int control_parse_save(const char *text, size_t bytes, struct save_request *ret, struct err *e);

#endif
