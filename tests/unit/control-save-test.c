/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: who asks for a save is told how far it is and how it ended; who hangs up has it
 *       cancelled; a client without manners harms neither the VM nor its memory.
 * Method: control-kit.h. */
#include <event2/event.h>
#include <string.h>
#include <sys/socket.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/io.h"
#include "common/json.h"
#include "tests/unit/control-kit.h"
#include "tests/unit/expect.h"
#include "vmm/control-priv.h"

/* ---- cases ---------------------------------------------------------------- */

static const struct {
        const char *name;
        const char *body;
} ways[] = { { "in one piece", PLAIN }, { "in parts", PARTS } };

static void answers(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                struct client c;
                struct vm vm;

                vm_begin(&vm);
                ask(&c, "PUT", "/snapshot/create", ways[i].body);
                EXPECT_TRUE(ways[i].name, turns_until_saving(&vm));
                if (i == 1)
                        EXPECT_TRUE(ways[i].name, hears(&vm, &c, "{\"done\":1}\n"));
                EXPECT_TRUE(ways[i].name, !strstr(c.said, "there"));
                save_ends(&vm, "there");
                EXPECT_TRUE(ways[i].name, hears(&vm, &c, "{\"image\":\"there\"}\n"));

                EXPECT_EQUAL(ways[i].name, vm.control->tick != NULL, false);
                hang_up(&c);
                turn(&vm, 10);
                vm_end(&vm);
        }
}

static void errors(void)
{
        struct client plain, parts;
        struct vm vm;

        vm_begin(&vm);
        ask(&plain, "PUT", "/snapshot/create", PLAIN);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        ask(&parts, "PUT", "/snapshot/create", PARTS);
        /* what fails at once fails the same way for all */
        CU_ASSERT_TRUE(hears(&vm, &parts, "{\"error\":\"busy\"}"));
        CU_ASSERT_PTR_NOT_NULL(strstr(parts.said, "HTTP/1.1 409"));
        save_ends(&vm, NULL);
        CU_ASSERT_TRUE(hears(&vm, &plain, "{\"error\":\"ended early\"}"));
        CU_ASSERT_PTR_NOT_NULL(strstr(plain.said, "HTTP/1.1 409"));
        hang_up(&parts);

        ask(&parts, "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        save_ends(&vm, NULL);
        CU_ASSERT_TRUE(hears(&vm, &parts, "{\"error\":\"ended early\"}\n\r\n0\r\n\r\n"));
        CU_ASSERT_PTR_NOT_NULL(strstr(parts.said, "HTTP/1.1 200"));
        hang_up(&plain);
        hang_up(&parts);
        vm_end(&vm);
}

static void clients_that_hang_up(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                for (int heard = 0; heard < 2; heard++) {
                        struct client c;
                        struct vm vm;

                        vm_begin(&vm);
                        ask(&c, "PUT", "/snapshot/create", ways[i].body);
                        EXPECT_TRUE(ways[i].name, turns_until_saving(&vm));
                        if (heard && i == 1)
                                EXPECT_TRUE(ways[i].name, hears(&vm, &c, "done"));
                        turn(&vm, 10);
                        EXPECT_EQUAL(ways[i].name, vm.save->cancelled, 0);
                        hang_up(&c);
                        EXPECT_TRUE(ways[i].name, turns_until_cancelled(&vm));
                        turn(&vm, 10);
                        if (heard)              /* else the VM ends in the meantime */
                                save_ends(&vm, NULL);
                        turn(&vm, 10);
                        vm_end(&vm);
                }
        }
}

static void clients_that_go_on_talking(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                struct client c;
                struct vm vm;

                vm_begin(&vm);
                ask(&c, "PUT", "/snapshot/create", ways[i].body);
                EXPECT_TRUE(ways[i].name, turns_until_saving(&vm));
                EXPECT_EQUAL(ways[i].name, io_write_full(c.sock, "GET /vm HT", 10), 0);
                turn(&vm, 100);
                EXPECT_EQUAL(ways[i].name, vm.save->cancelled, 0);
                save_ends(&vm, "there");
                EXPECT_TRUE(ways[i].name, hears(&vm, &c, "there"));
                hang_up(&c);
                turn(&vm, 10);
                vm_end(&vm);
        }
}

/* Their end is seen behind what they have said, which nobody reads. */
static void clients_that_talk_and_hang_up(void)
{
        for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
                struct client c;
                struct vm vm;

                vm_begin(&vm);
                ask(&c, "PUT", "/snapshot/create", ways[i].body);
                EXPECT_TRUE(ways[i].name, turns_until_saving(&vm));
                EXPECT_EQUAL(ways[i].name, io_write_full(c.sock, "GET /vm HT", 10), 0);
                turn(&vm, 100);
                EXPECT_EQUAL(ways[i].name, vm.save->cancelled, 0);
                hang_up(&c);
                EXPECT_TRUE(ways[i].name, turns_until_cancelled(&vm));
                save_ends(&vm, NULL);
                vm_end(&vm);
        }
}

/* What a client that talks and does not listen makes us keep is bounded. */
static void clients_that_do_not_listen(void)
{
        AUTO_JSON *part = json_object_new_object();
        char junk[4096] = "";
        size_t sent = 0;
        struct client c;
        struct vm vm;
        ssize_t n;

        memset(junk, 'x', sizeof(junk) - 1);
        json_put_str(part, "x", junk);
        vm_begin(&vm);
        ask(&c, "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        for (int i = 0; i < 10000; i++) {
                pending_tell(&vm.control->save, part);
                event_base_loop(vm.base, EVLOOP_NONBLOCK);
                n = send(c.sock, junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL);
                sent += n > 0 ? (size_t)n : 0;
        }
        /* 40 MiB either way; the socket's own buffers hold some hundred KiB */
        CU_ASSERT_TRUE(sent < 2 << 20);
        turn(&vm, 10);
        CU_ASSERT_EQUAL(vm.save->cancelled, 0);
        n = 0;
        for (ssize_t got; (got = recv(c.sock, junk, sizeof(junk), MSG_DONTWAIT)) > 0;) {
                n += got;
                event_base_loop(vm.base, EVLOOP_NONBLOCK);
        }
        CU_ASSERT_TRUE(n < 2 << 20);
        hang_up(&c);
        CU_ASSERT_TRUE(turns_until_cancelled(&vm));     /* by the next line */
        save_ends(&vm, NULL);
        vm_end(&vm);
}

static void cancelling(void)
{
        struct client save, first, second;
        struct vm vm;

        vm_begin(&vm);
        ask(&first, "PUT", "/actions", CANCEL);
        CU_ASSERT_TRUE(hears(&vm, &first, "{\"error\":\"no such save\"}"));
        CU_ASSERT_PTR_NOT_NULL(strstr(first.said, "HTTP/1.1 409"));
        hang_up(&first);

        ask(&save, "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        ask(&first, "PUT", "/actions",
            "{\"action_type\":\"CancelSave\",\"snapshot_path\":\"/b\"}");
        CU_ASSERT_TRUE(hears(&vm, &first, "{\"error\":\"no such save\"}"));
        hang_up(&first);
        ask(&first, "PUT", "/actions", "{\"action_type\":\"CancelSave\",\"snapshot_path\":7}");
        CU_ASSERT_TRUE(hears(&vm, &first, "snapshot_path"));
        hang_up(&first);
        CU_ASSERT_EQUAL(vm.save->cancelled, 0);

        ask(&first, "PUT", "/actions",
            "{\"action_type\":\"CancelSave\",\"snapshot_path\":\"/a\"}");
        CU_ASSERT_TRUE(turns_until_cancelled(&vm));
        ask(&second, "PUT", "/actions", CANCEL);
        CU_ASSERT_TRUE(hears(&vm, &second, "cancelled already"));
        take(&first);
        CU_ASSERT_EQUAL(first.bytes, 0);        /* the save has not ended */
        save_ends(&vm, NULL);
        CU_ASSERT_TRUE(hears(&vm, &first, "\r\n\r\n{}\n"));
        CU_ASSERT_TRUE(hears(&vm, &save, "ended early"));
        hang_up(&first);
        hang_up(&second);
        hang_up(&save);
        vm_end(&vm);
}

static void cancelling_too_late(void)
{
        struct client save, cancel;
        struct vm vm;

        vm_begin(&vm);
        ask(&save, "PUT", "/snapshot/create", PLAIN);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        ask(&cancel, "PUT", "/actions", CANCEL);
        CU_ASSERT_TRUE(turns_until_cancelled(&vm));
        save_ends(&vm, "there");
        CU_ASSERT_TRUE(hears(&vm, &cancel, "was complete before"));
        CU_ASSERT_TRUE(hears(&vm, &save, "there"));
        hang_up(&save);
        hang_up(&cancel);

        /* a VM that ends while both wait */
        ask(&save, "PUT", "/snapshot/create", PARTS);
        CU_ASSERT_TRUE_FATAL(turns_until_saving(&vm));
        ask(&cancel, "PUT", "/actions", CANCEL);
        CU_ASSERT_TRUE(turns_until_cancelled(&vm));
        vm_end(&vm);
        take(&cancel);
        take(&save);
        take(&save);
        CU_ASSERT_TRUE(save.closed && cancel.closed);
        hang_up(&save);
        hang_up(&cancel);
}

static const CU_TestInfo cases[] = {
        { "the answer, in one piece and in parts", answers },
        { "errors", errors },
        { "clients that hang up", clients_that_hang_up },
        { "clients that go on talking", clients_that_go_on_talking },
        { "clients that talk and hang up", clients_that_talk_and_hang_up },
        { "clients that do not listen", clients_that_do_not_listen },
        { "cancelling", cancelling },
        { "cancelling too late", cancelling_too_late },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return control_kit_main("control-save", cases);
}
