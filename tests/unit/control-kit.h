/* SPDX-License-Identifier: Apache-2.0 */
/* control-kit.h - the control socket of a VM that has nothing else, in our own event loop, over
 * a save that is played (save.o is not linked: all its functions are in the kit), and clients.
 * Threads: one. */
#ifndef TESTS_UNIT_CONTROL_KIT_H
#define TESTS_UNIT_CONTROL_KIT_H

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/save.h"
#include "vmm/vm.h"

/* bodies of requests */
#define PLAIN "{\"snapshot_path\":\"/a\"}"
#define PARTS "{\"snapshot_path\":\"/a\",\"progress\":true}"
#define CANCEL "{\"action_type\":\"CancelSave\"}"

struct save {
        save_done_fn *done;
        void *ctx;
        unsigned cancelled;
};

struct client {
        int sock;
        char said[8192];
        size_t bytes;
        bool closed;
};

void vm_begin(struct vm *vm);
void vm_end(struct vm *vm);
/* The save's thread has ended; NULL: with an error. */
void save_ends(struct vm *vm, const char *result);

/* Connected, and has said nothing. */
void come(struct client *c);
void ask(struct client *c, const char *method, const char *where, const char *body);
void hang_up(struct client *c);
void take(struct client *c);
/* The loop turns until the client was told the text, false: never. */
bool hears(struct vm *vm, struct client *c, const char *text);
/* until it was hung up on */
bool sees_the_end(struct vm *vm, struct client *c, unsigned seconds);
bool turns_until_saving(struct vm *vm);
bool turns_until_cancelled(struct vm *vm);
void turn(struct vm *vm, unsigned times);

/* main() of the test */
int control_kit_main(const char *name, const CU_TestInfo *cases);

#endif
