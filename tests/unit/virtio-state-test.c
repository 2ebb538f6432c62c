/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: the state of devices goes on in another machine, or back in the same one; what is
 *       wrong in a saved one is refused, or breaks the device and nothing else.
 * Method: the bus without KVM (virtio-machine.h), its document taken apart and changed. */
#include "vmm/virtio/bus.h"

#include <errno.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#include "common/auto.h"
#include "common/check.h"
#include "common/json.h"
#include "tests/unit/expect.h"
#include "tests/unit/suite.h"
#include "tests/unit/virtio-machine.h"

/* ---- saved state ------------------------------------------------------------------------ */

static struct json_object *saved(struct machine *m)
{
        struct virtio_bus_state *state;
        struct json_object *o = NULL;
        struct err e;

        held(m);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_state_new(m->bus, &state, &e), 0);
        virtio_bus_capture(m->bus, state);
        CU_ASSERT_EQUAL_FATAL(virtio_bus_encode(state, &o, &e), 0);
        virtio_bus_state_free(state);
        return o;
}

static int load(struct machine *m, struct json_object *o, struct err *e)
{
        struct virtio_bus_state *state = NULL;
        int rc = virtio_bus_decode(m->bus, o, &state, e);

        if (rc == 0)
                rc = virtio_bus_apply(m->bus, state, e);
        virtio_bus_state_free(state);
        return rc;
}

static void goes_on_in_another_machine(void)
{
        struct machine m;
        struct vqguest g;
        struct err e;

        machine_init(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);
        put(&m, 0, VIRTIO_MMIO_INTERRUPT_ACK, 3);
        held(&m);
        ask(&m, 0, &g);                         /* its kick is lost with the machine */

        AUTO_JSON *doc = saved(&m);

        virtio_bus_free(m.bus);
        machine_bus(&m);
        CU_ASSERT_EQUAL_FATAL(load(&m, doc, &e), 0);
        CU_ASSERT_EQUAL(m.c[0]->starts, 0);
        virtio_bus_release(m.bus);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 2);
        CU_ASSERT_EQUAL(get(&m, 0, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
        CU_ASSERT_EQUAL(m.c[1]->starts, 0);     /* was not in use */
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 3);
        machine_fini(&m);
}

/* A rollback: into devices that are in use. */
static void goes_back_in_the_same_machine(void)
{
        struct machine m;
        struct vqguest g;
        struct err e;

        machine_init(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 1);

        AUTO_JSON *doc = saved(&m);
        AUTO_FREE void *memory = malloc(MACHINE_RAM_BYTES);
        struct vqguest then = g;

        CU_ASSERT_FATAL(memory != NULL);
        memcpy(memory, m.ram.slots[0].hva, MACHINE_RAM_BYTES);
        virtio_bus_release(m.bus);
        for (unsigned i = 0; i < 10; i++) {
                ask(&m, 0, &g);
                CU_ASSERT_EQUAL(answer(&m, 0, &g), i + 2);
        }
        held(&m);
        memcpy(m.ram.slots[0].hva, memory, MACHINE_RAM_BYTES);
        g = then;
        CU_ASSERT_EQUAL_FATAL(load(&m, doc, &e), 0);
        CU_ASSERT_EQUAL(m.c[0]->stops, 1);
        virtio_bus_release(m.bus);
        ask(&m, 0, &g);
        CU_ASSERT_EQUAL(answer(&m, 0, &g), 2);
        machine_fini(&m);
}

static void refuses_what_is_wrong(void)
{
        static const struct {
                const char *row, *key, *value;
                int want;
        } rows[] = {
                { "another kind", "kind", "\"blk\"", -EBADMSG },
                { "a newer one", "version", "2", -ENOTSUP },
                { "features it has not", "features", "1", -ENOTSUP },
                { "status", "status", "-1", -EBADMSG },
                { "no queues", "queues", "[]", -EBADMSG },
                { "a queue of nothing", "queues", "[{}]", -EBADMSG },
                { "a short configuration", "config", "\"41\"", -EBADMSG },
                { "its own state", "own", "{\"n\":-1}", -EBADMSG },
                { "no own state", "own", "3", -EBADMSG },
        };
        struct machine m;

        machine_init(&m);

        AUTO_JSON *doc = saved(&m);
        const char *text = json_object_to_json_string(doc);

        for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
                AUTO_JSON *bad = json_tokener_parse(text);
                struct err e;

                json_object_object_add(json_object_array_get_idx(bad, 1), rows[i].key,
                                       json_tokener_parse(rows[i].value));
                EXPECT_EQUAL(rows[i].row, load(&m, bad, &e), rows[i].want);
        }
        AUTO_JSON *fewer = json_tokener_parse("[]");
        struct err e;

        CU_ASSERT_EQUAL(load(&m, fewer, &e), -EBADMSG);
        CU_ASSERT_EQUAL(load(&m, NULL, &e), -EBADMSG);
        CU_ASSERT_EQUAL(load(&m, doc, &e), 0);
        machine_fini(&m);
}

/* Queues of a saved state are as little trusted as those of a driver. */
static void a_saved_ring_outside_ram(void)
{
        struct machine m;
        struct vqguest g;
        struct err e;

        machine_init(&m);
        virtio_bus_release(m.bus);
        set_up(&m, 0, &g);

        AUTO_JSON *doc = saved(&m);
        struct json_object *queues;

        json_object_object_get_ex(json_object_array_get_idx(doc, 0), "queues", &queues);
        json_put_u64(json_object_array_get_idx(queues, 0), "used", 1ull << 40);
        virtio_bus_free(m.bus);
        machine_bus(&m);
        CU_ASSERT_EQUAL(load(&m, doc, &e), 0);
        virtio_bus_release(m.bus);
        CU_ASSERT(comes_to_break(&m));
        machine_fini(&m);
}

static CU_TestInfo cases[] = {
        { "goes on in another machine", goes_on_in_another_machine },
        { "goes back in the same machine", goes_back_in_the_same_machine },
        { "refuses what is wrong", refuses_what_is_wrong },
        { "a saved ring outside RAM", a_saved_ring_outside_ram },
        CU_TEST_INFO_NULL,
};

int main(void)
{
        return suite_main("virtio-state", cases);
}
